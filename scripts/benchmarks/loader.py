"""Training images per second and core, against the released program's chain and against only decoding."""

import io
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import Measured, alone, begin_peak, peak, seconds, turn_by_turn
from vse_gpo.backbones.grid import IMAGENET_MEAN, IMAGENET_STD
from vse_gpo.data.decoding import read_image
from vse_gpo.data.files import Listing
from vse_gpo.data.images import PrepareImages
from vse_gpo.data.regions import RegionFiles
from vse_gpo.errors import VSEError

PICTURES, WIDTH, HEIGHT, SIZE = 64, 640, 480, 512
RELEASED = {"cv2": "opencv-python-headless", "imageio": "imageio"}  # module → package
COCO = (113287, 36, 2048)  # images, regions, width: 33 GB in float32


def loader(images: str | None) -> list[Measured]:
    """Decode, crop, resize to 512×512 and flip, on one core; also open 33 GB of features.

    Raises:
        VSEError: if OpenCV or imageio, which the released chain reads with, is not installed.
    """
    if missing := [package for module, package in RELEASED.items() if find_spec(module) is None]:
        raise VSEError(f"loader needs what the released program reads with; pip install {' '.join(missing)}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = sorted(Path(images).rglob("*.jpg"))[:PICTURES] if images else _pictures(Path(folder))
        decode, ours, plain = turn_by_turn(
            [
                lambda: [np.array(Image.open(file).convert("RGB")) for file in files],
                lambda: _ours(files),
                lambda: _released(files),
            ],
            repeats=5,
        )
    rate = [len(files) / taken for taken in (decode, ours, plain)]
    size = f"{len(files)} JPEGs of {images}" if images else f"{len(files)} JPEGs of {WIDTH}×{HEIGHT}"
    names = ("only decoding", "ours: uint8, normalised on the device", "released: floats, OpenCV, normalised here")
    rows = [[name, own, own / rate[0], own / rate[2]] for name, own in zip(names, rate, strict=True)]
    columns = ["", "images/s on one core", "of only decoding", "of the released chain"]
    return [Measured(f"{size} → {SIZE}×{SIZE}, training transform", columns, rows), _features()]


def _pictures(folder: Path) -> list[Path]:
    """Images with as much detail at every scale as photographs have, about 1.7 bits per pixel."""
    random = np.random.default_rng(0)
    files = []
    for number in range(PICTURES):
        total = np.zeros((HEIGHT, WIDTH, 3))
        for cells in (4, 8, 16, 32, 64, 128, 256):
            noise = Image.fromarray(random.integers(0, 256, (cells * 3 // 4, cells, 3), dtype=np.uint8))
            total += (np.asarray(noise.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), float) - 128) / cells**0.65
        pixels = np.clip(128 + 1.6 * total, 0, 255).astype(np.uint8)
        files.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(files[-1], quality=90)
    return files


def _ours(files: list[Path]) -> None:
    prepare = PrepareImages(size=SIZE)
    for number, file in enumerate(files):
        prepare.encode(read_image(file), np.random.default_rng((0, number)))


def _released(files: list[Path]) -> None:
    import cv2  # noqa: PLC0415, the released program's readers, in its own process
    import imageio.v2 as imageio  # noqa: PLC0415

    cv2.setNumThreads(0)
    random = np.random.default_rng(0)
    for file in files:
        image = np.array(imageio.imread(file)).astype(np.float32)
        share = random.uniform(0.6, 1.0)
        height, width = int(image.shape[0] * share), int(image.shape[1] * share)
        top, left = random.integers(image.shape[0] - height + 1), random.integers(image.shape[1] - width + 1)
        image = cv2.resize(image[top : top + height, left : left + width], (SIZE, SIZE))
        if random.random() < 0.5:
            image = np.fliplr(image).copy()
        image = (image / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
        torch.tensor(image.transpose(2, 0, 1), dtype=torch.float32)


def _features() -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "precomp").mkdir()
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": COCO})
        with (root / "precomp" / "train_ims.npy").open("wb") as file:
            file.write(header.getvalue())
            file.write(np.float32(1).tobytes())  # the first two rows differ, as those of two images do
            file.truncate(len(header.getvalue()) + 4 * int(np.prod(COCO)))  # sparse: takes no disk space
        taken, memory = alone(_open, root)
    gigabytes = 4 * int(np.prod(COCO)) / 1e9
    columns = ["", "seconds", "MiB"]
    what = f"{gigabytes:.0f} GB, and 128 images of them, no disk read"
    return Measured("opening features", columns, [[what, taken, memory]])


def _open(root: Path) -> tuple[float, float]:
    ids = [str(number) for number in range(COCO[0])]
    listing = Listing(name="train", image_ids=ids, captions=5 * ids, caption_to_image=np.arange(len(ids)).repeat(5))
    before = begin_peak()

    def read() -> None:
        images = RegionFiles(root, listing)
        for row in range(0, COCO[0], COCO[0] // 128):
            images[row]

    taken = seconds(read, 1)
    return taken, peak() - before

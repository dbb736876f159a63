"""Training images per second and core, against the released program's chain and the fastest decoder of the files."""

import io
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg, read_file

from benchmarks.measure import Measured, alone, begin_peak, peak, seconds, turn_by_turn
from vse_gpo.backbones.grid import IMAGENET_MEAN, IMAGENET_STD
from vse_gpo.data.decoding import read_image
from vse_gpo.data.files import Listing
from vse_gpo.data.images import PrepareImages
from vse_gpo.data.regions import RegionFiles
from vse_gpo.errors import VSEError

PICTURES, WIDTH, HEIGHT, SIZE = 64, 640, 480, 512
DETAIL = ((0.65, 90), (0.4, 94))  # fall of detail, quality: the second gives 160 kB, as COCO's images have
RELEASED = ("cv2", "imageio")  # modules
COCO = (113287, 36, 2048)  # images, regions, width: 33 GB in float32


def loader(images: str | None) -> list[Measured]:
    """Decode, crop, resize to 512×512 and flip, on one core; also open 33 GB of features.

    Raises:
        VSEError: if OpenCV or imageio, which the released chain reads with, is not installed.
    """
    if missing := [module for module in RELEASED if find_spec(module) is None]:
        raise VSEError(
            f"loader needs what the released program reads with, and finds no {' and no '.join(missing)}; "
            "pip install 'vse_gpo[benchmark]'"
        )
    torch.set_num_threads(1)
    if images:
        files = sorted(Path(images).rglob("*.jpg"))[:PICTURES]
        return [_chains(f"{len(files)} JPEGs of {images}", files), _features()]
    tables = []
    for fall, quality in DETAIL:
        with tempfile.TemporaryDirectory() as folder:
            files = jpegs(Path(folder), fall, quality)
            size = sum(file.stat().st_size for file in files) / len(files) / 1000
            tables.append(_chains(f"{len(files)} JPEGs of {WIDTH}×{HEIGHT}, {size:.0f} kB each", files))
    return [*tables, _features()]


def _chains(title: str, files: Sequence[Path]) -> Measured:
    works: dict[str, Callable[[], object]] = {
        "only decoding, Pillow": lambda: [np.array(Image.open(file).convert("RGB")) for file in files],
        "only decoding, torchvision": lambda: [decode_jpeg(read_file(str(file)), ImageReadMode.RGB) for file in files],
        "only decoding, OpenCV": lambda: _by_opencv(files),
        "ours: uint8, normalised on the device": lambda: _ours(files),
        "released: floats, OpenCV, normalised here": lambda: _released(files),
    }
    taken = turn_by_turn([*works.values()], repeats=5)
    rate = [len(files) / seconds for seconds in taken]
    rows = [[name, own, own / max(rate[:3]), own / rate[-1]] for name, own in zip(works, rate, strict=True)]
    columns = ["", "images/s on one core", "of the fastest decoder", "of the released chain"]
    return Measured(f"{title} → {SIZE}×{SIZE}, training transform", columns, rows)


def jpegs(folder: Path, fall: float, quality: int) -> list[Path]:
    """Images with detail at every scale, as photographs have.

    Args:
        folder: for the files.
        fall: how fast detail becomes weaker towards small scales.
        quality: of the JPEGs.
    """
    random = np.random.default_rng(0)
    files = []
    for number in range(PICTURES):
        total = np.zeros((HEIGHT, WIDTH, 3))
        for cells in (4, 8, 16, 32, 64, 128, 256, 512):
            noise = Image.fromarray(random.integers(0, 256, (cells * 3 // 4, cells, 3), dtype=np.uint8))
            total += (np.asarray(noise.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), float) - 128) / cells**fall
        pixels = np.clip(128 + 1.6 * total, 0, 255).astype(np.uint8)
        files.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(files[-1], quality=quality)
    return files


def _by_opencv(files: Sequence[Path]) -> None:
    import cv2  # noqa: PLC0415, an extra

    cv2.setNumThreads(0)
    for file in files:
        cv2.imread(str(file))


def _ours(files: Sequence[Path]) -> None:
    prepare = PrepareImages(size=SIZE)
    for number, file in enumerate(files):
        prepare.encode(read_image(file), np.random.default_rng((0, number)))


def _released(files: Sequence[Path]) -> None:
    import cv2  # noqa: PLC0415, the released program's readers
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

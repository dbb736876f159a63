"""Extract features of a data set's images, in the layout that the region backbones read."""

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import nn
from torch.utils.data import Subset

from vse_gpo.batch import choose_devices
from vse_gpo.data.datamodule import Source
from vse_gpo.data.encoding import Encoding, encode_items
from vse_gpo.data.layout import link_images
from vse_gpo.data.pairs import EvaluationImages
from vse_gpo.data.preparation import ImagePreparation
from vse_gpo.data.progress import advance, progress_bar
from vse_gpo.data.split import Split
from vse_gpo.errors import VSEError, first_line
from vse_gpo.storage.locks import only_process_in
from vse_gpo.storage.trunk import keep_trunk
from vse_gpo.storage.writing import reserve, whole_file, write_text

SAVE_EVERY = 5.0  # seconds of work that an interrupted extraction can lose


def extract(
    *,
    out: str,
    root: str | None,
    image_folder: str | None,
    splits: Sequence[str],
    make_source: Callable[[], Source],
    make_prepare: Callable[[], ImagePreparation],
    make_network: Callable[[], nn.Module],
    backbone: dict[str, Any],
    dtype: str,
    batch_size: int,
    workers: int | str,
    accelerator: str,
    devices: int | str,
    precision: int | str,
) -> None:
    """Write ``precomp/{split}_ims.npy`` with its captions, ids and index, the ``trunk`` that made them, and a link to
    the images.

    An interrupted extraction resumes where it stopped. ``out`` may be the data set's own folder.

    Args:
        out: folder of the new data set.
        root: the data set's folder; None is refused, as its captions go with the features.
        image_folder: folder of the images under the root; the new data set gets a link to it.
        splits: names of the splits.
        make_source, make_prepare, make_network: build the data set, the image preparation and the trunk.
        backbone: settings of the trunk, stored next to the features.
        dtype: float32 or float16.
        batch_size: images per batch.
        workers, precision: see ``Encoding``.
        accelerator: ``cpu`` avoids the GPU.
        devices: see ``choose_devices``.

    Raises:
        VSEError: if the data set has no folder, ``out`` holds features of other images, of another trunk or type, or
            made by another program, or another process is at work in it.
    """
    if root is None or image_folder is None:
        raise VSEError(
            "this data set has no folder whose captions go with the features; vse-prepare SOURCE DIR writes one, "
            "dataset=own dataset.root=DIR reads it"
        )
    folder = Path(out).expanduser() / "precomp"
    trunk = folder.parent / "trunk"
    if any(folder.glob("*_ims.npy")) and not trunk.exists():
        raise VSEError(f"out={out}: holds features that this command did not write; name a new folder")
    encoding = Encoding(
        batch_size=batch_size, workers=workers, devices=choose_devices(accelerator, devices), precision=precision
    )
    with only_process_in(folder.parent):
        folder.mkdir(exist_ok=True)
        source, prepare = make_source(), make_prepare()
        found = [source.split(name) for name in splits]  # bad data raise before any work
        for split in found:
            check_kept(folder, split, dtype)
        network = make_network()
        point_to_images(Path(root).expanduser(), folder.parent, image_folder)
        keep_trunk(trunk, network, {"network": backbone["network"], "prepare": backbone["prepare"]})
        for split in found:
            write_text(index_file(folder, split), json.dumps(describe_rows(split), indent=1))
            write_features(
                network,
                EvaluationImages(split, prepare),
                folder / f"{split.name}_ims.npy",
                settings={"backbone": backbone, "dtype": dtype, "precision": str(precision)},
                dtype=dtype,
                encoding=encoding,
            )
            copy_texts(Path(root).expanduser() / "precomp", folder, split)


def copy_texts(precomp: Path, folder: Path, split: Split) -> None:
    """Copy the captions and ids of a split next to its features, unless they are there already."""
    if not precomp.samefile(folder):
        for kind in ("caps", "ids"):
            name = f"{split.name}_{kind}.txt"
            with whole_file(folder / name) as file:
                file.write((precomp / name).read_bytes())


def point_to_images(root: Path, out: Path, image_folder: str) -> None:
    """Let a folder of features find the images that they are made of, so that they can be shown.

    Args:
        root: folder of the data set with the images; one without ``id_mapping.json`` names none.
        out: folder of the features: gets the mapping and, if the file system has links, one to the image folder.
        image_folder: folder under both.
    """
    mapping = root / "id_mapping.json"
    if not mapping.is_file() or (out / mapping.name).exists():  # what is there stays
        return
    with whole_file(out / mapping.name) as file:
        file.write(mapping.read_bytes())
    try:
        link_images(root / image_folder, out / image_folder)
    except VSEError as error:
        warnings.warn(f"{error}; results will show the images' names", stacklevel=2)


def check_kept(folder: Path, split: Split, dtype: str) -> None:
    """Refuse to resume or keep features of other images or another type.

    Args:
        folder: folder of the features.
        split: split that the features must belong to.
        dtype: type that the features must have.

    Raises:
        VSEError: if an earlier extraction left other features in the folder.
    """
    path = folder / f"{split.name}_ims.npy"
    if path.is_file() and (found := np.load(path, mmap_mode="r").dtype) != np.dtype(dtype):
        raise VSEError(f"{path}: features in {found}, expected dtype={dtype}; name a new folder")
    index = index_file(folder, split)
    if index.is_file() and (path.is_file() or path.with_suffix(".part.npy").is_file()):
        kept = [(row["image_id"], row["file"]) for row in json.loads(index.read_text(encoding="utf-8"))]
        if kept != [(row["image_id"], row["file"]) for row in describe_rows(split)]:
            raise VSEError(f"{path}: features of other images than {split.name} has now; name a new folder")


def index_file(folder: Path, split: Split) -> Path:
    """Path of the file that says which row is which image."""
    return folder / f"{split.name}_index.json"


def write_features(
    network: nn.Module,
    images: EvaluationImages,
    path: Path,
    *,
    settings: Mapping[str, Any],
    dtype: str,
    encoding: Encoding,
) -> None:
    """Write features (images, items, width) batch by batch; the file gets the name ``path`` only when complete."""
    part, progress_file = path.with_suffix(".part.npy"), path.with_suffix(".progress.json")
    first = _rows_done(progress_file, part, settings)
    if path.exists() and not part.exists():
        return
    if not first:
        progress_file.unlink(missing_ok=True)  # it tells of rows that are written over now
    rest = Subset(images, range(first, len(images)))
    with (
        part.open("r+b" if first else "wb") as file,
        progress_bar(path.stem, total=len(images), done=first) as progress,
    ):
        saved = time.monotonic()
        for values, index, *_ in encode_items(network, rest, images.collate, encoding, attrgetter("values")):
            rows = values.numpy().astype(dtype, order="C")
            done = int(index[-1]) + 1
            with refused_disk(part, progress_file):
                if file.tell() == 0:
                    begin_array(file, (len(images), *rows.shape[1:]), dtype, first)
                file.write(rows.data)
                if time.monotonic() - saved > SAVE_EVERY or done == len(images):
                    file.flush()
                    os.fsync(file.fileno())
                    write_text(progress_file, json.dumps({"rows": done, "settings": settings}))
                    saved = time.monotonic()
            advance(progress, len(index))
    part.replace(path)
    progress_file.unlink()


def begin_array(file: BinaryIO, shape: tuple[int, ...], dtype: str, first: int) -> None:
    """Write the header of an .npy file, reserve its space, and go to the place of a row.

    Args:
        file: open at its start.
        shape: of the whole array.
        dtype: of the whole array.
        first: number of the row.
    """
    kind = np.dtype(dtype)
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    start, row = file.tell(), kind.itemsize * math.prod(shape[1:])
    reserve(file, start + shape[0] * row)
    file.seek(start + first * row)


@contextmanager
def refused_disk(part: Path, progress_file: Path) -> Iterator[None]:
    """Tell in one line what the disk refuses; rows that were saved stay for the next time.

    Raises:
        VSEError: in place of an error of the operating system.
    """
    try:
        yield
    except OSError as error:
        if not progress_file.exists():  # no row to resume from
            part.unlink(missing_ok=True)
        raise VSEError(
            f"{part}: cannot be written ({first_line(error)}); the same command resumes from the last saved row"
        ) from error


def _rows_done(progress_file: Path, part: Path, settings: Mapping[str, Any]) -> int:
    """Number of rows that an earlier, interrupted extraction with the same settings wrote."""
    if not (progress_file.is_file() and part.is_file()):
        return 0
    done = json.loads(progress_file.read_text(encoding="utf-8"))
    return int(done["rows"]) if done["settings"] == settings else 0


def describe_rows(split: Split) -> list[dict[str, Any]]:
    """Image id, file and captions of each row."""
    captions: list[list[int]] = [[] for _ in split.image_ids]
    for caption, row in enumerate(split.caption_to_image.tolist()):
        captions[row].append(caption)
    return [
        {"row": row, "image_id": image_id, "file": split.images.name(row), "captions": captions[row]}
        for row, image_id in enumerate(split.image_ids)
    ]

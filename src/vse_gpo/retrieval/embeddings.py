"""Embeddings and similarities on disk, from this program or any other."""

import json
import pickle
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vse_gpo.errors import VSEError, first_line
from vse_gpo.retrieval.arrays import Array, Ids, Index, float_tensor, read_index, unit_embeddings
from vse_gpo.retrieval.hubness import Beside
from vse_gpo.retrieval.similarity import Similarities, matrix_similarities, similarities
from vse_gpo.storage.writing import whole_file

NEEDED = ("image_embeddings", "caption_embeddings", "caption_to_image")
HELP = "expected arrays image_embeddings (images, E), caption_embeddings (captions, E), caption_to_image (captions,)"
TOO_LARGE = (MemoryError, RecursionError)  # a damaged header asks for any size, JSON may nest without end


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A test set as one model sees it.

    Args:
        similarities: similarities of its images and captions.
        caption_to_image: row of each caption's image.
        image_ids: id per image; None if unknown.
        caption_ids: id per caption; None if unknown.
        files: name per image by which a person can find it, usually its id.
        embeddings: unit embeddings of images and captions; None if only similarities are known.
        bank: other pairs beside it, or its item sets, for corrections; None if there are none.
    """

    similarities: Similarities
    caption_to_image: npt.NDArray[np.int64]
    image_ids: Sequence[str] | None = None
    caption_ids: Sequence[str] | None = None
    files: Sequence[str] | None = None
    embeddings: tuple[Tensor, Tensor] | None = None
    bank: Beside | None = None


def read_encoded(path: str | Path, device: torch.device | None = None) -> Encoded:
    """Read embeddings (.npz or .safetensors) or a similarity matrix (.npy), without running code from the file.

    Args:
        path: .npz and .safetensors hold image_embeddings, caption_embeddings and caption_to_image, and may hold
            image_ids and caption_ids (.safetensors: numbers, or JSON lists in its metadata). Embeddings are scaled to
            unit length. .npy holds similarities (images, captions), image-major with equally many captions each, or
            {'npts', 'sims'} as the released program pickled it.
        device: device to compare on.

    Raises:
        VSEError: if the file is missing, damaged or of another kind, or its arrays do not fit each other.
    """
    path = Path(path).expanduser()
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    if path.suffix == ".npy":
        return _of_matrix(_read_npy(path), path, device)
    if path.suffix not in readers:
        raise VSEError(f"embeddings={path}: expected a file that ends in .npz, .safetensors or .npy")
    try:
        arrays = readers[path.suffix](path)
    except OSError as error:
        raise VSEError(f"embeddings={path}: {(error.strerror or str(error)).lower()}; {HELP}") from error
    except (ValueError, zipfile.BadZipFile, zlib.error, SafetensorError, KeyError, EOFError, *TOO_LARGE) as error:
        raise VSEError(f"embeddings={path}: damaged or something else ({first_line(error)}); {HELP}") from error
    return _of_embeddings(arrays, path, device)


def _read_npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        lists = {name: json.loads(text) for name, text in (file.metadata() or {}).items() if name.endswith("_ids")}
        if odd := [name for name, ids in lists.items() if not isinstance(ids, list)]:
            raise ValueError(f"{odd[0]} that are no list")
        return lists | {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is not a mapping


def _of_embeddings(arrays: dict[str, Any], path: Path, device: torch.device | None) -> Encoded:
    try:
        return encoded_arrays(arrays, device)
    except VSEError as error:
        raise VSEError(f"embeddings={path}: {error}") from error


def encoded_arrays(arrays: Mapping[str, Any], device: torch.device | None = None) -> Encoded:
    """A test set from arrays named as those of a file; see ``read_encoded``.

    Raises:
        VSEError: if one is missing, an embedding is zero or not finite, or they do not fit each other.
    """
    missing = [name for name in NEEDED if name not in arrays]
    if missing:
        raise VSEError(f"no {', '.join(missing)}, only {', '.join(arrays) or 'nothing'}; {HELP}")
    return encoded(
        *(arrays[name] for name in NEEDED[:2]),
        caption_to_image=arrays[NEEDED[2]],
        image_ids=arrays.get("image_ids"),
        caption_ids=arrays.get("caption_ids"),
        device=device,
    )


def encoded(
    image_embeddings: Array,
    caption_embeddings: Array,
    *,
    caption_to_image: Index,
    image_ids: Ids = None,
    caption_ids: Ids = None,
    device: torch.device | None = None,
) -> Encoded:
    """A test set from any program's embeddings, scaled to unit length.

    Raises:
        VSEError: if an embedding is zero or not finite, or the arguments do not fit each other.
    """
    images, captions = unit_embeddings(image_embeddings, caption_embeddings, device)
    known_images = _ids(image_ids, "image_ids", len(images))
    return Encoded(
        similarities=similarities(images, captions),
        caption_to_image=read_index(caption_to_image, len(captions)),
        image_ids=known_images,
        caption_ids=_ids(caption_ids, "caption_ids", len(captions)),
        files=known_images,
        embeddings=(images, captions),
    )


def _ids(ids: Ids, name: str, rows: int) -> list[str] | None:
    """Ids of any type as strings, one per row."""
    if ids is None:
        return None
    known = ids if isinstance(ids, list) else np.asarray(ids).tolist()
    if not isinstance(known, list) or any(isinstance(one, list | dict) for one in known):
        raise VSEError(f"{name} that are no list of texts or numbers, expected one for each of {rows} rows")
    if len(known) != rows:
        raise VSEError(f"{len(known)} {name} for {rows} rows, expected one for each")
    try:
        return [one.decode() if isinstance(one, bytes) else str(one) for one in known]
    except UnicodeDecodeError as error:
        raise VSEError(f"{name} that are not UTF-8, expected texts or numbers") from error


def _of_matrix(values: npt.NDArray[Any], path: Path, device: torch.device | None) -> Encoded:
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind != "f" or values.shape[1] % values.shape[0]:
        raise VSEError(
            f"embeddings={path}: shape {values.shape} of {values.dtype}, expected similarities (images, captions) in "
            "floats, with equally many captions for each image"
        )
    images, captions = values.shape
    return Encoded(
        similarities=matrix_similarities(float_tensor(values, "similarities").to(device or "cpu")),
        caption_to_image=np.repeat(np.arange(images), captions // images),
    )


class _OnlyArrays(pickle.Unpickler):
    """Reads a pickle of arrays, numbers and plain containers, and refuses everything else."""

    ARRAYS = frozenset(
        {
            *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ARRAYS:
            raise VSEError(f"refused, it holds {module}.{name}; expected {{'npts', 'sims'}} with only arrays")
        return super().find_class(module, name)


def _read_npy(path: Path) -> npt.NDArray[Any]:
    try:
        with path.open("rb") as file:
            if _is_pickle(file):
                # the released program's format, read by an unpickler that knows only arrays
                saved = _OnlyArrays(file).load().item()
                values: npt.NDArray[Any] = np.asarray(saved["sims"])
                return values
            file.seek(0)
            plain: npt.NDArray[Any] = np.load(file, allow_pickle=False)
            return plain
    except OSError as error:
        raise VSEError(f"embeddings={path}: {(error.strerror or str(error)).lower()}") from error
    except VSEError as error:
        raise VSEError(f"embeddings={path}: {error}") from error
    except (ValueError, EOFError, KeyError, TypeError, AttributeError, pickle.UnpicklingError, *TOO_LARGE) as error:
        raise VSEError(
            f"embeddings={path}: damaged or something else ({first_line(error)}); expected a similarity matrix or the "
            "released program's {'npts', 'sims'}"
        ) from error


def _is_pickle(file: BinaryIO) -> bool:
    """Whether a .npy file holds objects; leaves the file position at the start of its data."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, kind = read(file)
    return bool(kind.hasobject)


def write_embeddings(
    path: Path,
    *,
    image_embeddings: npt.NDArray[np.floating],
    caption_embeddings: npt.NDArray[np.floating],
    caption_to_image: npt.NDArray[np.int64],
    image_ids: Sequence[str],
) -> None:
    """Write an .npz file that ``read_encoded`` reads."""
    with whole_file(path.expanduser()) as file:
        np.savez(
            file,
            image_embeddings=image_embeddings,
            caption_embeddings=caption_embeddings,
            caption_to_image=caption_to_image,
            image_ids=np.array(image_ids),
        )

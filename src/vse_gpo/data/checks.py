"""Checks of a data set's splits: what they should hold, and what is there."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

import numpy as np

from vse_gpo.data.decoding import read_image
from vse_gpo.data.dense import read_dense
from vse_gpo.data.files import HELP, Listing, feature_rows, find_images, name_some, open_features, read_listing
from vse_gpo.data.findings import UNCHECKED, Finding
from vse_gpo.data.progress import advance, progress_bar
from vse_gpo.errors import VSEError


class Counts(TypedDict):
    """Numbers of images and captions in a published split."""

    images: int
    captions: int


class FeatureKind(TypedDict):
    """Shape and range of the published features; those after a ReLU are never negative."""

    regions: int
    width: int
    nonnegative: bool


def check_split(
    root: Path,
    name: str,
    *,
    counts: Counts | None,
    kind: FeatureKind | None,
    folder: str,
    rows: int,
    decode: bool,
    dense: str | None = None,
) -> Iterator[Finding]:
    """Check the captions, features, images and dense captions of a split, found in the same way as in training.

    Args:
        root: the data set's folder.
        name: name of the split.
        counts: numbers of the published split; None accepts any.
        kind: shape of the published features; None accepts any.
        folder: image folder under the root.
        rows: number of feature sets to read.
        decode: decode every image.
        dense: file of its dense captions; None has none.
    """
    expected = expectations(counts, kind, folder)

    def look(part: str, check: Callable[[], str]) -> Finding:
        try:
            return Finding(split=name, part=part, expected=expected[part], found=check())
        except VSEError as error:
            return Finding(split=name, part=part, expected=expected[part], problem=_problem(error))

    try:
        listing = read_listing(root, name)
    except VSEError as error:
        problems = {"captions": _problem(error), "features": UNCHECKED, "images": UNCHECKED}
        problems |= {} if dense is None else {"dense captions": UNCHECKED}
        for part, problem in problems.items():
            yield Finding(split=name, part=part, expected=expected[part], problem=problem)
        return
    yield look("captions", lambda: check_captions(listing, counts))
    yield look("features", lambda: check_features(root, listing, kind, rows))
    yield look("images", lambda: check_images(root, listing, folder, decode))
    if dense is not None:
        yield look("dense captions", lambda: check_dense(Path(dense).expanduser(), listing))


def expectations(counts: Counts | None, kind: FeatureKind | None, folder: str) -> dict[str, str]:
    """Describe what each part of a split should hold."""
    images = f"{counts['images']:,}" if counts else "any number of"
    sets = f"{kind['regions']} × {kind['width']}" if kind else "regions × width"
    return {
        "captions": f"{images} images, {counts['captions']:,} captions" if counts else "an id for each",
        "features": f"{images} × {sets}",
        "images": f"{images} files in {folder}/",
        "dense captions": "as many lines for each image",
    }


def _problem(error: VSEError) -> str:
    return str(error).removesuffix(f"; {HELP}")  # which names this command


def check_captions(listing: Listing, counts: Counts | None) -> str:
    """Numbers of images and captions, as text.

    Raises:
        VSEError: if they differ from the published ones.
    """
    images, captions = len(listing.image_ids), len(listing.captions)
    found = f"{images:,} images, {captions:,} captions"
    if counts and (images, captions) != (counts["images"], counts["captions"]):
        raise VSEError(
            f"precomp/{listing.name}_caps.txt and {listing.name}_ids.txt: {found}, expected {counts['images']:,} and "
            f"{counts['captions']:,}"
        )
    return found


def check_features(root: Path, listing: Listing, kind: FeatureKind | None, rows: int) -> str:
    """Shape, type and statistics of the features, from the header and a few sets spread over the file.

    Raises:
        VSEError: if they are missing, have another shape, or their values do not fit this kind.
    """
    path = root / "precomp" / f"{listing.name}_ims.npy"
    features = open_features(path)
    row_of_image = feature_rows(len(features), listing, path)
    shape = f"{len(features):,} × {features.shape[1]} × {features.shape[2]}"
    own = "for features of your own add dataset.expected.features=null"
    if kind and features.shape[1:] != (kind["regions"], kind["width"]):
        raise VSEError(f"{path}: {shape}, expected {kind['regions']} × {kind['width']} an image; {own}")
    read = row_of_image[np.linspace(0, len(row_of_image) - 1, min(rows, len(row_of_image))).astype(int)]
    sample = np.asarray(features[read], dtype=np.float32)
    if broken := read[~np.isfinite(sample).all(axis=(1, 2))].tolist():
        raise VSEError(f"{path}: NaN or infinity in row {broken[0]}, and {len(broken) - 1} more of {len(read)} read")
    if empty := read[~sample.any(axis=(1, 2))].tolist():
        raise VSEError(f"{path}: nothing but zeros in row {empty[0]}, and {len(empty) - 1} more of {len(read)} read")
    if len(sample) > 1 and (sample == sample[0]).all():
        raise VSEError(f"{path}: the {len(read)} rows read are all the same")
    if kind and kind["nonnegative"] and sample.min() < 0:
        raise VSEError(f"{path}: values down to {sample.min():.2f}, the published features have none below 0; {own}")
    return (
        f"{shape} {features.dtype}, mean {sample.mean():.2f}, {100 * (sample == 0).mean():.0f} % zeros, "
        f"{sample.min():.2f} to {sample.max():.2f}"
    )


def check_images(root: Path, listing: Listing, folder: str, decode: bool) -> str:
    """Number of image files, as text; each is looked up and, on request, decoded.

    Raises:
        VSEError: if one is missing or cannot be decoded.
    """
    files = find_images(root, folder, listing)
    if not decode:
        return f"{len(files):,} files"
    broken = list(undecodable([root / folder / file for file in files], f"decoding {listing.name}"))
    if broken:
        raise VSEError(f"{len(broken)} of {len(files):,} images cannot be decoded: {name_some(broken)}")
    return f"{len(files):,} files, all decoded"


def check_dense(path: Path, listing: Listing) -> str:
    """Number of dense captions, as text.

    Raises:
        VSEError: if they are missing or do not match the images.
    """
    dense = read_dense(path, len(listing.image_ids))
    return f"{len(dense):,} × {len(dense[0])} lines"


def undecodable(paths: Sequence[Path], task: str) -> Iterator[str]:
    """Names of the files that cannot be decoded."""

    def failed(path: Path) -> str | None:
        try:
            read_image(path)
        except VSEError:
            return path.name
        return None

    with ThreadPoolExecutor(os.cpu_count()) as threads, progress_bar(task, total=len(paths)) as progress:
        for name in threads.map(failed, paths):
            advance(progress)
            if name is not None:
                yield name

"""Checks of a data set: what it should hold, and what is there."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from vse_gpo.data.decoding import read_image
from vse_gpo.data.dense import read_dense
from vse_gpo.data.files import HELP, Listing, feature_rows, find_images, name_some, open_features, read_listing
from vse_gpo.data.progress import advance, progress_bar
from vse_gpo.errors import VSEError, printable

BACKBONES = {"features": "region backbones", "images": "grid backbones"}  # what each kind of input trains
UNCHECKED = "not checked: captions and ids come first"


class Counts(TypedDict):
    """Numbers of images and captions in a published split."""

    images: int
    captions: int


class FeatureKind(TypedDict):
    """Shape and range of the published features; those after a ReLU are never negative."""

    regions: int
    width: int
    nonnegative: bool


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was expected and found in one part of a split."""

    split: str
    part: str  # captions, features, images or dense captions
    expected: str
    found: str = "–"
    problem: str | None = None


def check_data(*, dataset: Mapping[str, Any], inputs: str, rows: int, decode: bool) -> None:
    """Print what is expected, found and missing, and where to get it.

    Args:
        dataset: settings of ``configs/dataset``, in plain containers.
        inputs: what must be there: ``features``, ``images`` or ``any`` of the two.
        rows: number of feature sets to read per split.
        decode: decode every image.

    Raises:
        VSEError: if something that training needs is missing or wrong.
    """
    if "root" not in dataset:
        raise VSEError(f"dataset={dataset['name']} needs no files, there is nothing to check; set dataset=coco")
    if inputs not in ("any", *BACKBONES):
        raise VSEError(f"inputs={inputs}, expected any, {' or '.join(BACKBONES)}")
    root = Path(dataset["root"]).expanduser()
    counts = dataset["expected"]["splits"] or {}  # of published splits
    findings: list[Finding] = []
    for name in dict.fromkeys((dataset["train_split"], dataset["dev_split"], dataset["test_split"])):
        findings += check_split(
            root,
            name,
            counts=counts.get(name),
            kind=dataset["expected"]["features"],
            folder=dataset["image_folder"],
            rows=rows,
            decode=decode,
            dense=dataset["dense"] if name == dataset["train_split"] else None,
        )
    print_findings(f"{dataset['name']} in {root}", findings, dataset["sources"])
    Console(soft_wrap=True, highlight=False).print(verdict(findings, inputs), markup=False)


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


def print_findings(title: str, findings: Sequence[Finding], sources: dict[str, str]) -> None:
    """Print a table of all findings, then the problems of each part and where to get that part."""
    console = Console(soft_wrap=True, highlight=False)
    table = Table("split", "part", "expected", "found", "", title=Text(printable(title)))
    for finding in findings:
        marks = {None: "[green]ok[/]", UNCHECKED: "[yellow]not checked[/]"}
        mark = marks.get(finding.problem, "[red]missing or wrong[/]")
        cells = (finding.split, finding.part, finding.expected, finding.found)
        table.add_row(*(Text(printable(cell)) for cell in cells), mark)
    console.print(table)
    for part, source in sources.items():
        problems = dict.fromkeys(finding.problem for finding in findings if finding.part == part and finding.problem)
        if problems:
            console.print(f"[bold]{part}[/]: {escape(source)}")
        for problem in problems:
            console.print(f"  {printable(problem)}", markup=False)


def verdict(findings: Sequence[Finding], inputs: str) -> str:
    """One line that says what the data can train.

    Raises:
        VSEError: if the data cannot train anything, or not with these inputs.
    """
    lacking: dict[str, list[str]] = {}
    for finding in findings:
        if finding.problem:
            lacking.setdefault(finding.part, []).append(finding.split)
    told = {part: f"{part} of {', '.join(splits)}" for part, splits in lacking.items()}
    ready = [part for part in BACKBONES if part not in lacking]
    wanted = list(BACKBONES) if inputs == "any" else [inputs]
    missing = [told[part] for part in ("captions", "dense captions") if part in told]
    if not missing and not set(wanted) & set(ready):
        missing = [" or ".join(told[part] for part in wanted)]
    if missing:
        raise VSEError(f"missing or wrong for training: {missing[0]}")
    line = f"ready to train {' and '.join(BACKBONES[part] for part in ready)}"
    return line + "".join(f"; {BACKBONES[part]} lack {told[part]}" for part in BACKBONES if part in told)

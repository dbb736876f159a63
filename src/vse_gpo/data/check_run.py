"""``vse-check-data``: everything that a run needs, at once: what is there, what is missing and where it comes from."""

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from vse_gpo.data.addresses import Address, file_size, read_addresses
from vse_gpo.data.checks import check_split, expectations
from vse_gpo.data.fetching import DOWNLOADS, download, unpack_file, unpack_folder
from vse_gpo.data.findings import BACKBONES, RUN, UNCHECKED, UNSET, Finding, Need, print_findings, verdict
from vse_gpo.data.sources.run import prepare
from vse_gpo.errors import VSEError
from vse_gpo.storage.hub import cached_model
from vse_gpo.storage.hub import fetch as fetch_model

TEXTS = ("*.json", "*.txt", "*.model")  # what a hub's model has beside its weights
ANNOTATIONS = "annotations"
ECCV = "eccv_caption"  # package that holds its annotations


def check_data(
    *,
    dataset: Mapping[str, Any],
    inputs: str,
    rows: int,
    decode: bool,
    cxc: str | None,
    find_needs: Callable[[], Sequence[Need]] | None,
    fetch: bool,
    fetch_command: str,
) -> None:
    """Print what is expected, found and missing, and where to get it.

    Args:
        dataset: settings of ``configs/dataset``, in plain containers; the root may be unset.
        inputs: what must be there: ``features``, ``images`` or ``any`` of the two.
        rows: number of feature sets to read per split.
        decode: decode every image.
        cxc: folder of Crisscrossed Captions; None looks in the data set's folder.
        find_needs: gives what a run needs beside the data set; None checks the data set only.
        fetch: first fetch what is missing and may be fetched.
        fetch_command: this command with ``fetch=true``.

    Raises:
        VSEError: if something that training needs is missing or wrong, or cannot be fetched.
    """
    if "root" not in dataset and find_needs is None:
        raise VSEError(
            f"dataset={dataset['name']} has no folder to check: what it reads is checked when a run begins; set "
            "experiment= or dataset=coco"
        )
    if inputs not in ("any", *BACKBONES):
        raise VSEError(f"inputs={inputs}, expected any, {' or '.join(BACKBONES)}")
    if find_needs is None and dataset["root"] == UNSET:
        raise VSEError("dataset.root must be set; add dataset.root=…, or experiment=… for where everything comes from")
    known = read_addresses(dataset["name"])
    folder = Path(dataset["root"]).expanduser() if dataset.get("root", UNSET) != UNSET else None

    def found() -> tuple[list[Finding], list[Need]]:
        findings = list(split_findings(dataset, folder, rows, decode)) if "root" in dataset else []
        if find_needs is None:
            return findings, []
        needs = [*find_needs(), *annotation_needs(known.get(ANNOTATIONS, ()), folder, cxc)]
        return [one for one in findings if one.part not in BACKBONES or inputs in ("any", one.part)], needs

    findings, needs = found()
    if fetch:
        fetch_missing([*findings, *(need.finding for need in needs)], needs, known, folder, inputs)
        findings, needs = found()
    findings += [need.finding for need in needs]
    for need in needs:
        known.setdefault(need.finding.part, [])
        known[need.finding.part] += [one for one in need.addresses if one not in known[need.finding.part]]
    place = "" if folder is None else f" in {folder}"
    print_findings(f"{dataset['name']}{place}", findings, dataset.get("sources", {}), known, fetch_command)
    told = verdict(findings, inputs)
    if find_needs is not None:
        told = "nothing is missing to start" if any(one.problem for one in findings) else "everything is there"
        told += "" if "root" in dataset else f"; dataset={dataset['name']} has no folder to check"
    Console(soft_wrap=True, highlight=False).print(told, markup=False)


def split_findings(dataset: Mapping[str, Any], folder: Path | None, rows: int, decode: bool) -> Iterator[Finding]:
    """What each split of a data set has.

    Args:
        dataset: settings of ``configs/dataset``.
        folder: the data set's folder; None where none is set.
        rows: see ``check_data``.
        decode: see ``check_data``.
    """
    counts, kind = dataset["expected"]["splits"] or {}, dataset["expected"]["features"]
    for name in dict.fromkeys((dataset["train_split"], dataset["dev_split"], dataset["test_split"])):
        dense = dataset["dense"] if name == dataset["train_split"] else None
        if folder is None:
            expected = expectations(counts.get(name), kind, dataset["image_folder"])
            problem = "dataset.root is not set; add dataset.root=DIR"
            yield Finding(split=name, part="captions", expected=expected["captions"], problem=problem)
            for part in BACKBONES:
                yield Finding(split=name, part=part, expected=expected[part], problem=UNCHECKED)
            continue
        yield from check_split(
            folder,
            name,
            counts=counts.get(name),
            kind=kind,
            folder=dataset["image_folder"],
            rows=rows,
            decode=decode,
            dense=dense,
        )


def annotation_needs(known: Sequence[Address], folder: Path | None, cxc: str | None) -> Iterator[Need]:
    """Annotations that only an evaluation reads.

    Args:
        known: addresses of the data set's annotations.
        folder: the data set's folder; None where none is set.
        cxc: folder of Crisscrossed Captions; None looks in the data set's folder.
    """
    for one in known:
        if one.to is None:
            there = importlib.util.find_spec(ECCV) is not None
            found, problem = (f"package {ECCV}", None) if there else ("–", f"package {ECCV} is not installed")
        else:
            inside = (
                Path(cxc).expanduser() if cxc is not None else folder / "cxc" if folder is not None else Path("cxc")
            )
            path = inside / Path(one.to).name
            there = path.is_file()
            found = f"{path}, {file_size(path.stat().st_size)}" if there else "–"
            problem = None if there else f"{path}: no such file"
        finding = Finding(
            split=RUN,
            part=ANNOTATIONS,
            expected=f"{one.what}, to evaluate",
            found=found,
            problem=problem,
            optional=True,
        )
        yield Need(finding)


def fetch_missing(
    findings: Sequence[Finding],
    needs: Sequence[Need],
    known: Mapping[str, Sequence[Address]],
    folder: Path | None,
    inputs: str,
) -> None:
    """Fetch what is missing and may be fetched.

    Args:
        findings: of all parts.
        needs: what the run needs beside the data set.
        known: part → addresses of the data set.
        folder: the data set's folder.
        inputs: see ``check_data``.

    Raises:
        VSEError: if something cannot be fetched, or there is no folder for it.
    """
    missing = {one.part for one in findings if one.problem}
    unused = set(BACKBONES) - {inputs} if inputs != "any" else set()
    for part, listed in known.items():
        for one in listed:
            if one.fetched and part in missing - unused:
                if folder is None:
                    raise VSEError("fetch=true needs a folder for the data; add dataset.root=DIR")
                fetch_part(one, folder)
    for need in needs:
        if need.finding.problem and need.hub is not None:
            fetch_model(need.hub, need.finding.part, (*TEXTS, "*.safetensors"))
            if cached_model(need.hub) is None:  # an older model
                fetch_model(need.hub, need.finding.part, (*TEXTS, "*.bin"))
        elif need.finding.problem and need.file is not None:
            need.file.parent.mkdir(parents=True, exist_ok=True)
            download(need.addresses[0], need.file)


def fetch_part(source: Address, folder: Path) -> None:
    """Fetch one part of a data set and put it where it is read.

    Args:
        source: where it comes from and what becomes of it.
        folder: the data set's folder.

    Raises:
        VSEError: if it cannot be fetched, or captions would be put beside features that they may not belong to.
    """
    archive = folder / DOWNLOADS / source.address.rpartition("/")[2]
    if source.to is not None:
        (folder / source.to).parent.mkdir(parents=True, exist_ok=True)
        download(source, folder / source.to)
        return
    if source.unpack is not None and (folder / source.unpack).exists():
        return
    if source.prepare is not None and any((folder / "precomp").glob("*_ims.npy")):
        raise VSEError(
            f"{folder / 'precomp'}: features are there without their captions, which must come from where the features "
            "do: others have another order"
        )
    archive.parent.mkdir(parents=True, exist_ok=True)
    download(source, archive)
    if source.unpack is not None:
        unpack_folder(archive, folder / source.unpack)
    elif source.prepare is not None:
        columns: dict[str, Any] = dict.fromkeys(("image_column", "caption_column", "split_column", "layout"))
        prepare(source=str(unpack_file(archive, source.prepare)), out=str(folder), seed=0, **columns)

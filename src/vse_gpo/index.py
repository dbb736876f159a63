"""python -m vse_gpo.index images=FOLDER model=… out=INDEX : one's own pictures, embedded for the search."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from vse_gpo.commands import device_of, did_you_mean, ignore_remarks, run_command
from vse_gpo.errors import VSEError

if TYPE_CHECKING:
    from vse_gpo.model import VSE
    from vse_gpo.search.index import Index, IndexSettings, Picture
    from vse_gpo.search.pictures import Found, Parts, Reasons, Rows

SAVE_EVERY = 20.0  # seconds: what a killed command loses at most
UNFINISHED = "unfinished"  # folder of the embeddings until the index is written
SHOWN = 20  # files that are named, of those that cannot be read


def main() -> None:
    """The command."""
    run_command(index, "index")


def index(config: DictConfig) -> None:
    """Embed the pictures that an index does not have yet, and write it anew.

    Raises:
        VSEError: if there is no model, no picture that can be read, or an index of another model in the way.
    """
    if config.batch_size < 1 or config.workers < 0:
        raise VSEError(
            f"batch_size={config.batch_size} workers={config.workers}, expected at least 1 picture and 0 processes"
        )
    if config.kind not in config.kinds:
        known = [str(name) for name in config.kinds]
        raise VSEError(
            f"kind={config.kind}: no such kind{did_you_mean(config.kind, known)}; there are {', '.join(known)}"
        )

    import numpy as np
    from hydra.utils import instantiate

    from vse_gpo.checkpoints import load_model
    from vse_gpo.search.index import IndexSettings, write_index
    from vse_gpo.search.pictures import Parts, find_pictures

    ignore_remarks()
    kind = instantiate(config.kinds[config.kind])
    folder, out = Path(config.images).expanduser().resolve(), Path(config.out).expanduser()
    former = _former(out)
    named = _model_settings(config, former)
    found = find_pictures(folder)
    model = load_model(named["model"], tokenizer=named["tokenizer"], vocabulary=named["vocabulary"])
    fingerprint = model.fingerprint()
    if former is not None:
        former.check_model(fingerprint, named["model"])
    model.to(device_of(config.accelerator))
    parts = Parts(out / UNFINISHED, fingerprint)
    rows = parts.read() | _rows_of(former)
    new = [picture for picture in found.pictures if picture not in rows]
    skipped = found.skipped | embed(model, folder, new, parts, batch_size=config.batch_size, workers=config.workers)
    rows = parts.read() | _rows_of(former)
    pictures = [picture for picture in found.pictures if picture in rows]
    report_skipped(found, skipped)
    if lost := [one.file for one in found.pictures if one not in rows and one.file not in skipped]:
        raise VSEError(f"{out}: {len(lost)} pictures that were read have no embedding, first {lost[0]}; run it again")
    if not pictures:
        raise VSEError(f"images={folder}: no picture that can be read, so there is nothing to index")
    settings = IndexSettings(images=str(folder), fingerprint=fingerprint, kind=repr(kind), **named)
    if former is None or list(former.pictures) != pictures or not _same(former.settings, settings):
        settings = write_index(
            out,
            pictures=pictures,
            embeddings=_blocks(pictures, rows),
            settings=settings,
            kind=kind,
            random=np.random.default_rng(config.seed),
        )
    else:
        settings = former.settings
    parts.remove()
    report(out, pictures, former, settings)


def _former(out: Path) -> "Index | None":
    """The index that is there already.

    Raises:
        VSEError: if something else is there.
    """
    from vse_gpo.search.index import Index, is_index

    if is_index(out):
        return Index.load(out)
    if out.exists() and (not out.is_dir() or any(not _left_over(path.name) for path in out.iterdir())):
        raise VSEError(f"out={out}: exists and is no index; name a new folder")
    return None


def _left_over(name: str) -> bool:
    """Whether a first index that was killed may have left such a file or folder."""
    from vse_gpo.search.index import FILES

    name, _, number = name.removeprefix(".").removesuffix(".part").partition("-")
    return name == UNFINISHED or any(name == kind and number.endswith(suffix) for kind, suffix in FILES.items())


def _model_settings(config: DictConfig, former: "Index | None") -> dict[str, Any]:
    """Where the model is, to be found again from any folder."""
    if config.model is None:
        if former is None:
            raise VSEError("model must be set; add model=… (a .ckpt, a released .pth, a folder or a hub id)")
        known = former.settings
        return {"model": known.model, "tokenizer": known.tokenizer, "vocabulary": known.vocabulary}
    places = {name: config[name] for name in ("model", "tokenizer", "vocabulary")}
    return {
        name: str(Path(place).resolve()) if place is not None and Path(place).exists() else place
        for name, place in places.items()
    }


def _rows_of(former: "Index | None") -> "Rows":
    """Where the embeddings of an index's pictures are."""
    if former is None:
        return {}
    embeddings = former.embeddings()
    return {picture: (embeddings, row) for row, picture in enumerate(former.pictures)}


def _same(former: "IndexSettings", settings: "IndexSettings") -> bool:
    """Whether an index of the same pictures need not be written again."""
    return (former.images, former.model, former.kind) == (settings.images, settings.model, settings.kind)


def embed(
    model: "VSE", folder: Path, pictures: "Sequence[Picture]", parts: "Parts", *, batch_size: int, workers: int
) -> "Reasons":
    """Embed pictures into parts; the files that could not be read, with the reason."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from vse_gpo.search.pictures import embed_pictures

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    skipped: Reasons = {}
    waiting = []
    saved = time.monotonic()
    with Progress(*columns) as progress:
        task = progress.add_task("pictures", total=len(pictures))
        for batch in embed_pictures(model, folder, pictures, batch_size=batch_size, workers=workers):
            skipped |= batch.skipped
            waiting.append(batch)
            if time.monotonic() - saved > SAVE_EVERY:
                parts.write(waiting)
                waiting, saved = [], time.monotonic()
            progress.update(task, advance=len(batch.pictures) + len(batch.skipped))
    parts.write(waiting)
    return skipped


def _blocks(pictures: "Sequence[Picture]", rows: "Rows", size: int = 4096) -> Iterator[Any]:
    """The embeddings of pictures, some thousand at a time."""
    import numpy as np

    for first in range(0, len(pictures), size):
        places = (rows[picture] for picture in pictures[first : first + size])
        yield np.stack([embeddings[row] for embeddings, row in places])


def report_skipped(found: "Found", skipped: "Reasons") -> None:
    """Say which files were passed over, and why."""
    from vse_gpo.search.index import printable

    for file in sorted(skipped)[:SHOWN]:
        print(f"skipped {printable(file)}: {skipped[file]}")
    if len(skipped) > SHOWN:
        print(f"skipped {len(skipped) - SHOWN} more")
    if found.others:
        print(f"passed over {found.others} files that are not named as pictures")


def report(out: Path, pictures: "Sequence[Picture]", former: "Index | None", settings: "IndexSettings") -> None:
    """Say what the index holds now and what became of the former one's pictures."""
    before = {} if former is None else {picture.file: picture for picture in former.pictures}
    now = {picture.file for picture in pictures}
    new = sum(picture.file not in before for picture in pictures)
    changed = sum(before.get(picture.file, picture) != picture for picture in pictures)
    removed = sum(file not in now for file in before)
    if former is not None and former.settings.kind != settings.kind:
        print(f"kind: {former.settings.kind} → {settings.kind}")
    if settings.recall is not None:
        print(f"recall@10 against exact search: {settings.recall:.1f} % (sample of the pictures)")
    print(f"{out}: {len(pictures)} pictures ({new} new, {changed} changed, {removed} removed)")


if __name__ == "__main__":
    main()

"""A folder of images → an index: only new and changed ones are embedded, and an interrupted run resumes."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vse_gpo.batch import choose_devices
from vse_gpo.checkpoints.sources import load_model
from vse_gpo.data.encoding import Encoding
from vse_gpo.data.progress import advance, progress_bar
from vse_gpo.errors import VSEError, did_you_mean, printable
from vse_gpo.model import VSE
from vse_gpo.search.index import Index
from vse_gpo.search.items import Compaction, Records, choose_compaction
from vse_gpo.search.kinds import Kind
from vse_gpo.search.parts import Embedding, Parts, Rows
from vse_gpo.search.pictures import Found, Reasons, embed_pictures, find_pictures
from vse_gpo.search.stored import FILES, IndexSettings, Picture, is_index, write_index
from vse_gpo.storage.locks import LOCK, only_process_in
from vse_gpo.storage.writing import PART

# CLIP ViT-B/32 trained on LAION-2B: MIT licence, 151 million weights, 15 GFLOPs for an image and a caption, zero-shot
# rSum 526.9 on Flickr30K. OpenAI's of the same size has 504.4, SigLIP B/16 549.0 at three times the cost.
DEFAULT_MODEL = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
SAVE_EVERY = 20.0  # seconds: the most that an interrupted command loses
UNFINISHED = "unfinished"  # folder of the embeddings until the index is written
SHOWN = 20  # unreadable files that are named


def build_index(
    *,
    images: str,
    out: str,
    model: str | None,
    tokenizer: str | None,
    vocabulary: str | None,
    kind: str,
    kinds: Mapping[str, Callable[[], Kind]],
    batch_size: int,
    workers: int | str,
    seed: int,
    items: int | str | None,
    item_dtype: str,
    accelerator: str,
    devices: int | str,
    precision: int | str,
) -> None:
    """Embed the images that an index does not have yet, rewrite the index, and print what it holds now.

    Args:
        images: folder, searched with all its subfolders.
        out: folder of the index.
        model, tokenizer, vocabulary: see ``load_model``; None takes the existing index's model or the default one.
        kind: name of one of the kinds.
        kinds: name → builds that kind of index.
        batch_size: images per batch.
        workers, precision: see ``Encoding``.
        seed: seed of the samples that an approximate index is made and measured with.
        items, item_dtype: see ``choose_compaction``.
        accelerator: ``cpu`` keeps off the GPU.
        devices: see ``choose_devices``.

    Raises:
        VSEError: if the kind is unknown, the model cannot be loaded, there is no readable image, an index is of another
            model, or another process makes this index.
    """
    if kind not in kinds:
        raise VSEError(f"kind={kind}: no such kind{did_you_mean(kind, kinds)}; there are {', '.join(kinds)}")
    chosen = kinds[kind]()
    encoding = Encoding(
        batch_size=batch_size, workers=workers, devices=choose_devices(accelerator, devices), precision=precision
    )
    folder, place = Path(images).expanduser().resolve(), Path(out).expanduser()
    with only_process_in(place):
        former = former_index(place)
        named = model_settings(former, model=model, tokenizer=tokenizer, vocabulary=vocabulary)
        found = find_pictures(folder)
        if not found.pictures:
            report_skipped(found, found.skipped)
            raise VSEError(f"images={folder}: no image that can be read, so there is nothing to index")
        loaded = load_model(named["model"], tokenizer=named["tokenizer"], vocabulary=named["vocabulary"])
        fingerprint = loaded.fingerprint()
        if former is not None:
            former.check_model(fingerprint, named["model"])
        compaction = choose_compaction(
            items,
            item_dtype,
            former=None if former is None else former.settings.compaction,
            is_new=former is None,
            has_interaction=loaded.interaction is not None,
        )
        parts = Parts(place / UNFINISHED, fingerprint, compaction)
        kept = rows_of(former, compaction)
        rows = parts.read() | kept
        new = [picture for picture in found.pictures if picture not in rows]
        skipped = found.skipped | embed_new(loaded, folder, new, parts, encoding, compaction)
        rows = parts.read() | kept
        pictures = [picture for picture in found.pictures if picture in rows]
        report_skipped(found, skipped)
        check_complete(place, folder, found, rows, skipped)
        settings = IndexSettings(
            images=str(folder),
            fingerprint=fingerprint,
            kind=repr(chosen),
            items=None if compaction is None else asdict(compaction),
            **named,
        )
        if former is None or list(former.pictures) != pictures or not same_settings(former.settings, settings):
            settings = write_index(
                place,
                pictures=pictures,
                embeddings=blocks(pictures, rows),
                records=record_blocks(pictures, rows),
                settings=settings,
                kind=chosen,
                random=np.random.default_rng(seed),
            )
        else:
            settings = former.settings
        parts.remove()
        report_index(place, pictures, former, settings, sizes=rows[pictures[0]].sizes())


def check_complete(out: Path, folder: Path, found: Found, rows: Rows, skipped: Reasons) -> None:
    """Refuse an index that lacks an image or has none.

    Raises:
        VSEError: if an image that was read has no embedding, or none could be read.
    """
    if lost := [one.file for one in found.pictures if one not in rows and one.file not in skipped]:
        raise VSEError(f"{out}: {len(lost)} images that were read have no embedding, first {lost[0]}; run it again")
    if not any(picture in rows for picture in found.pictures):
        raise VSEError(f"images={folder}: no image that can be read, so there is nothing to index")


def former_index(out: Path) -> Index | None:
    """The existing index, if there is one.

    Raises:
        VSEError: if something else is there.
    """
    if is_index(out):
        return Index.load(out)
    if out.exists() and (not out.is_dir() or any(not _left_over(path.name) for path in out.iterdir())):
        raise VSEError(f"out={out}: exists and is no index; name a new folder")
    return None


def _left_over(name: str) -> bool:
    """Whether an interrupted first index may have left such a file or folder."""
    known, _, number = name.partition("-")
    whole = any(known == kind and number.endswith(suffix) for kind, suffix in FILES.items())
    return whole or name in (UNFINISHED, LOCK) or (name.startswith(".") and name.endswith(PART))


def model_settings(
    former: Index | None, *, model: str | None, tokenizer: str | None, vocabulary: str | None
) -> dict[str, Any]:
    """Where the model is, as paths that are valid from any folder: the one named, the index's own or the default."""
    if model is None:
        if former is None:
            print(f"model: {DEFAULT_MODEL}, as none was named; model=… takes any other")
            return {"model": DEFAULT_MODEL, "tokenizer": None, "vocabulary": None}
        known = former.settings
        return {"model": known.model, "tokenizer": known.tokenizer, "vocabulary": known.vocabulary}
    return {"model": whole_path(model), "tokenizer": whole_path(tokenizer), "vocabulary": whole_path(vocabulary)}


def whole_path(place: str | None) -> str | None:
    """Absolute path of an existing file or folder; a hub id unchanged."""
    path = Path(place or "").expanduser()
    return str(path.resolve()) if place is not None and path.exists() else place


def rows_of(former: Index | None, compaction: Compaction | None) -> Rows:
    """Where the embeddings of an index's images are; nothing if their items are not as they are to be stored."""
    if former is None or compaction not in (None, former.settings.compaction):
        return {}
    embeddings, records = former.embeddings(), None if compaction is None else former.records
    return {picture: Embedding(embeddings, records, row) for row, picture in enumerate(former.pictures)}


def same_settings(former: IndexSettings, settings: IndexSettings) -> bool:
    """Whether an index of the same images need not be written again."""
    names = ("images", "model", "kind", "items")
    return all(getattr(former, name) == getattr(settings, name) for name in names)


def embed_new(
    model: VSE,
    folder: Path,
    pictures: Sequence[Picture],
    parts: Parts,
    encoding: Encoding,
    compaction: Compaction | None,
) -> Reasons:
    """Embed images into parts; returns the files that could not be read, with the reason."""
    skipped: Reasons = {}
    waiting = []
    saved = time.monotonic()
    with progress_bar("images", total=len(pictures)) as progress:
        for batch in embed_pictures(model, folder, pictures, encoding, compaction):
            skipped |= batch.skipped
            waiting.append(batch)
            if time.monotonic() - saved > SAVE_EVERY:
                parts.write(waiting)
                waiting, saved = [], time.monotonic()
            advance(progress, len(batch.pictures) + len(batch.skipped))
    parts.write(waiting)
    return skipped


def blocks(pictures: Sequence[Picture], rows: Rows, size: int = 4096) -> Iterator[npt.NDArray[np.float32]]:
    """The embeddings of images, ``size`` at a time."""
    for first in range(0, len(pictures), size):
        places = (rows[picture] for picture in pictures[first : first + size])
        yield np.stack([place.embeddings[place.row] for place in places])


def record_blocks(pictures: Sequence[Picture], rows: Rows, size: int = 1024) -> Iterator[Records]:
    """The sets of items of images, ``size`` at a time; nothing if there are none."""
    for first in range(0, len(pictures), size):
        places = (rows[picture] for picture in pictures[first : first + size])
        if found := [place.records[place.row] for place in places if place.records is not None]:
            yield np.stack(found)


def report_skipped(found: Found, skipped: Reasons) -> None:
    """Print which files were skipped, and why."""
    for file in sorted(skipped)[:SHOWN]:
        print(f"skipped {printable(f'{file}: {skipped[file]}')}")
    if len(skipped) > SHOWN:
        print(f"skipped {len(skipped) - SHOWN} more")
    if found.others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in found.others.most_common())
        print(f"skipped {found.others.total()} files that are not read as images: {printable(kinds)}")


def report_index(
    out: Path,
    pictures: Sequence[Picture],
    former: Index | None,
    settings: IndexSettings,
    *,
    sizes: tuple[int, int],
) -> None:
    """Print what the index holds now and how its images have changed.

    Args:
        out: folder of the index.
        pictures: that it holds.
        former: index before; None if there was none.
        settings: of the index.
        sizes: bytes of an image's items and of its embedding.
    """
    before = {} if former is None else {picture.file: picture for picture in former.pictures}
    now = {picture.file for picture in pictures}
    compaction = settings.compaction
    new = sum(picture.file not in before for picture in pictures)
    changed = sum(before.get(picture.file, picture) != picture for picture in pictures)
    removed = sum(file not in now for file in before)
    if former is not None and former.settings.kind != settings.kind:
        print(f"kind: {former.settings.kind} → {settings.kind}")
    if former is not None and former.settings.items != settings.items:
        print(f"items: {former.settings.compaction or 'none'} → {compaction or 'none'}")
    if settings.recall is not None:
        print(f"recall@10 against exact search: {settings.recall:.1f} % (sample of the images)")
    if compaction is not None:
        print(f"items: {compaction}; {sizes[0]:,} bytes an image, beside {sizes[1]:,} of its embedding")
    print(f"{out}: {len(pictures)} images ({new} new, {changed} changed, {removed} removed)")

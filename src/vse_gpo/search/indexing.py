"""A folder of images → an index: only new and changed ones are embedded, and an interrupted run resumes."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vse_gpo.batch import choose_devices
from vse_gpo.checkpoints.sources import load_model
from vse_gpo.data.encoding import Encoding
from vse_gpo.errors import VSEError, did_you_mean
from vse_gpo.search.index import Index
from vse_gpo.search.items import choose_compaction
from vse_gpo.search.kinds import Kind, kind_of
from vse_gpo.search.pictures import Found, Reasons, find_pictures
from vse_gpo.search.reports import report_index, report_skipped
from vse_gpo.search.stored import STORES, IndexSettings, is_index, is_stored_away, write_settings
from vse_gpo.search.table import TABLE, ImageTable
from vse_gpo.search.updating import LOG, Engine, Known, known_rows, remove_others, same_content, take_over
from vse_gpo.search.writer import TableWriter
from vse_gpo.storage.locks import LOCK, only_process_in
from vse_gpo.storage.writing import PART

# CLIP ViT-B/32 trained on LAION-2B: MIT licence, 151 million weights, 15 GFLOPs for an image and a caption, zero-shot
# rSum 526.9 on Flickr30K. OpenAI's of the same size has 504.4, SigLIP B/16 549.0 at three times the cost.
DEFAULT_MODEL = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
Named = TypeVar("Named")
GROWN = 2  # times as many images: the lists of an approximate index are made anew


def build_index(
    *,
    images: str,
    out: str,
    table: str | None,
    model: str | None,
    tokenizer: str | None,
    vocabulary: str | None,
    kind: str,
    kinds: Mapping[str, Callable[[], Kind]],
    engine: str,
    engines: Mapping[str, Callable[[], Engine]],
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
        table: see ``choose_table``.
        model, tokenizer, vocabulary: see ``load_model``; None takes the existing index's model or the default one.
        kind: name of one of the kinds.
        kinds: name → builds that kind of index.
        engine: name of one of the engines.
        engines: name → builds what embeds new images.
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
    chosen, embed = chosen_of("kind", kind, kinds), chosen_of("engine", engine, engines)
    encoding = Encoding(
        batch_size=batch_size, workers=workers, devices=choose_devices(accelerator, devices), precision=precision
    )
    folder, place = Path(images).expanduser().resolve(), Path(out).expanduser()
    with only_process_in(place):
        former = former_index(place)
        address = choose_table(table, former)
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
        about = {"fingerprint": fingerprint, "items": repr(compaction)}
        writer = unfinished_table(TableWriter(place, address), former, about)
        resumed = writer.version != (0 if former is None else former.settings.version)
        known = known_rows(writer)
        unknown = [picture for picture in found.pictures if picture not in known.rows]
        moved = same_content(folder, unknown, known)
        take_over(writer, moved, about)
        new = [picture for picture in unknown if picture not in moved]
        skipped = found.skipped | embed(loaded, folder, new, writer, encoding, compaction, about)
        report_skipped(found, skipped)
        check_complete(place, folder, found, known_rows(writer), skipped)
        remove_others(writer, found.pictures)
        settings = IndexSettings(
            images=str(folder),
            fingerprint=fingerprint,
            version=writer.version,
            table=address,
            approximate=chosen.settings,
            items=None if compaction is None else asdict(compaction),
            **named,
        )
        finish(place, writer, former, settings, resumed=resumed, random=np.random.default_rng(seed))
        report_index(place, former, Index.load(place))


def chosen_of(option: str, name: str, known: Mapping[str, Callable[[], Named]]) -> Named:
    """The part of a name.

    Args:
        option: that names it.
        name: of the part.
        known: name → builds it.

    Raises:
        VSEError: if there is no such part.
    """
    if name not in known:
        raise VSEError(f"{option}={name}: no such {option}{did_you_mean(name, known)}; there are {', '.join(known)}")
    return known[name]()


def choose_table(table: str | None, former: Index | None) -> str | None:
    """Address of an index's table in an object store; None if it lies in the folder.

    Args:
        table: address; None takes the existing index's.
        former: existing index.

    Raises:
        VSEError: if the address is of another kind, or the existing index has its table elsewhere.
    """
    known = None if former is None else former.settings.table
    if table is not None and not is_stored_away(table):
        raise VSEError(f"table={table}: expected an address that begins with {' or '.join(STORES)}")
    if former is not None and table not in (None, known):
        raise VSEError(f"table={table}: the index has its table in {known or 'its folder'}; name a new folder by out=")
    return table or known


def unfinished_table(table: TableWriter, former: Index | None, about: Mapping[str, str]) -> TableWriter:
    """A table with what an interrupted command has left in it, ready for rows of this kind.

    Args:
        table: of the index.
        former: index before, if there is one.
        about: model and kind of the sets of items.

    Raises:
        VSEError: if an unfinished index of another kind is there, or an object store holds the table of another folder.
    """
    if former is None and table.version and is_stored_away(table.place) and not (table.folder / LOG).exists():
        raise VSEError(f"table={table.place}: holds rows that {table.folder} did not write; name another address")
    finished = 0 if former is None else former.settings.version
    if table.version == 0 or table.about == about:
        return table
    if table.version != finished:
        for name, kind, remedy in (
            ("fingerprint", "of another model", "model="),
            ("items", "with other items", "items= and item_dtype="),
        ):
            if (left := table.about.get(name, "")) != about[name]:
                raise VSEError(
                    f"{table.place}: left by an unfinished index {kind} ({left[:60]}, now {about[name][:60]}); resume "
                    f"with the same {remedy}, or name another place"
                )
    if about["items"] == repr(None):
        table.drop_items(about)
    else:
        table.start_over()
    return table


def finish(
    out: Path,
    table: TableWriter,
    former: Index | None,
    settings: IndexSettings,
    *,
    resumed: bool,
    random: np.random.Generator,
) -> None:
    """Make of a table's rows what is searched, and let searches see it; nothing if they do already.

    Args:
        out: folder of the index.
        table: with a row of each image.
        former: index before, if there is one.
        settings: of the index; version and recall are filled in.
        resumed: whether an interrupted command has left its work in the table.
        random: draws the sample to measure recall.
    """
    known = None if former is None else former.settings
    is_same = known is not None and known.approximate == settings.approximate
    if known is not None and is_same and table.version == known.version:
        settings = replace(settings, recall=known.recall)
        if settings == known:
            return
    else:
        again = resumed or not is_same or former is None or len(table) > GROWN * len(former)
        if again:
            table.drop_lists()
        table.compact()
        kind_of(settings.approximate).build(table, again=again)
        settings = replace(settings, version=table.version)
        if settings.approximate is not None:
            index = Index(ImageTable(out, table.version, settings.table), settings)
            settings = replace(settings, recall=index.recall(random))
    if known is not None:
        table.keep(known.version)
    write_settings(out, settings)
    table.clean()


def check_complete(out: Path, folder: Path, found: Found, known: Known, skipped: Reasons) -> None:
    """Refuse an index that lacks an image or has none.

    Raises:
        VSEError: if an image that was read has no embedding, or none could be read.
    """
    if lost := [one.file for one in found.pictures if one not in known.rows and one.file not in skipped]:
        raise VSEError(f"{out}: {len(lost)} images that were read have no embedding, first {lost[0]}; run it again")
    if not any(picture in known.rows for picture in found.pictures):
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
    return name in (TABLE, LOG, LOCK) or (name.startswith(".") and name.endswith(PART))


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

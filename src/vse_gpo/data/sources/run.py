"""``vse-prepare``: a data set's folder from any source of captions and images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote

from vse_gpo.data.caption_lists import CaptionList
from vse_gpo.data.layout import (
    Layout,
    caption_texts,
    counted_captions,
    link_images,
    named_layout,
    write_images,
)
from vse_gpo.data.sources.columns import Wanted
from vse_gpo.data.sources.read import read_captions
from vse_gpo.data.sources.to_shards import write_splits
from vse_gpo.errors import VSEError, printable
from vse_gpo.storage.writing import write_together

FILES, SHARDS = "files", "shards"  # what is written
SHOWN = 10  # rows that were left out or changed


def prepare(
    *,
    source: str,
    out: str,
    seed: int,
    image_column: str | None,
    caption_column: str | None,
    split_column: str | None,
    layout: str | None,
    to: str = FILES,
    per_shard: int = 1000,
) -> None:
    """Write the files, and print how the source was read, what was left out and what each split has.

    Args:
        source: see ``read_captions``.
        out: the data set's folder.
        seed: assigns images to splits, if the source has none.
        image_column, caption_column, split_column: names of the columns; None guesses them.
        layout: data set's config that will read the folder; None takes what the source says.
        to: ``files``, or ``shards`` for tars that ``dataset=shards`` reads.
        per_shard: samples in each tar.

    Raises:
        VSEError: if the source cannot be read, or captions would change that have features already.
    """
    if to not in (FILES, SHARDS):
        raise VSEError(f"to={to}, expected {FILES} or {SHARDS}")
    if layout is not None:
        named_layout(layout)  # before the source is read
    captions = read_captions(source, Wanted(image_column, caption_column, split_column))
    if to == SHARDS:
        shards = write_splits(captions, Path(out).expanduser(), seed, per_shard)
        _print_lines(captions.told)
        _print_notes(captions.notes)
        _print_counts(shards)
        return
    option = layout or captions.layout
    chosen, folder = named_layout(option), Path(out).expanduser()
    kept = counted_captions(captions.described, chosen)
    files, counts = caption_texts(kept, folder, seed, chosen)  # before the images, which may take long
    if captions.images is not None:
        write_images(captions.images, {one.file for one in kept}, folder / chosen.image_folder)
    write_together(files)
    _print_lines(captions.told)
    _print_lines([f"laid out for dataset={option}"] if option != "own" else [])
    _print_notes(captions.notes)
    if dropped := len(captions.described) - len(kept):
        print(f"{dropped:,} captions left out: {option} counts the first {chosen.captions} of each image")
    _print_counts(counts)
    _print_lines([_images_line(source, captions, folder, chosen)])


def _print_counts(counts: Mapping[str, tuple[int, int]]) -> None:
    for split, (images, texts) in counts.items():
        print(f"{split}: {images:,} images, {texts:,} captions")


def _print_notes(notes: Sequence[str]) -> None:
    if notes:
        print(f"{len(notes):,} left out or changed" + (f", the first {SHOWN}:" if len(notes) > SHOWN else ":"))
    _print_lines([f"  {note}" for note in notes[:SHOWN]])


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        print(printable(line))


def _images_line(source: str, captions: CaptionList, folder: Path, layout: Layout) -> str:
    """Where the images lie, or what is still to be done."""
    place = folder / layout.image_folder
    if captions.images is not None:
        return f"images: written to {place}"
    if captions.folder is not None and Path(source).expanduser().is_dir() and link_images(captions.folder, place):
        return f"images: {place} leads to {captions.folder}"
    if place.exists():
        return f"images: those of {place}"
    if captions.folder is not None:
        return f"images: found in {captions.folder}; ln -s {quote(str(captions.folder.resolve()))} {quote(str(place))}"
    return f"images: put them into {place}, or a link to their folder; the first is {captions.described[0].file}"

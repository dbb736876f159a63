"""What a command that makes an index prints of it."""

from pathlib import Path

from vse_gpo.search.index import Index
from vse_gpo.search.pictures import Found, Reasons
from vse_gpo.search.skips import skipped_lines
from vse_gpo.search.updating import changes_of


def report_skipped(found: Found, skipped: Reasons) -> None:
    """Print which files were skipped, and why, by kind."""
    for line in skipped_lines(skipped, found.others):
        print(line)


def report_index(out: Path, former: Index | None, index: Index) -> None:
    """Print what the index holds now and how its images have changed.

    Args:
        out: folder of the index.
        former: index before; None if there was none.
        index: now.
    """
    settings, compaction = index.settings, index.settings.compaction
    if settings.table is not None:
        print(f"table: {settings.table}")
    if former is not None and former.kind != index.kind:
        print(f"kind: {former.kind} → {index.kind}")
    if former is not None and former.settings.items != settings.items:
        print(f"items: {former.settings.compaction or 'none'} → {compaction or 'none'}")
    if settings.recall is not None:
        print(f"recall@10 against exact search: {settings.recall:.1f} % (sample of the images)")
    if compaction is not None:
        sizes = f"{index.table.item_bytes:,} bytes an image, beside {4 * index.width:,} of its embedding"
        print(f"items: {compaction}; {sizes}")
    changes = changes_of({} if former is None else contents(former), contents(index))
    print(f"{out}: {len(index)} images ({changes})")


def contents(index: Index) -> dict[str, str]:
    """Hash of each file of an index.

    Args:
        index: to be read.
    """
    found = index.table.read(["file", "hash"])
    return dict(zip(found["file"].to_pylist(), found["hash"].to_pylist(), strict=True))

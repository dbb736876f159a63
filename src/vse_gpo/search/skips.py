"""What an index leaves out of a folder, by kind: how many files, why, and which for example."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from vse_gpo.errors import printable

NAMED = 10  # files of a kind that are named


def skipped_lines(skipped: Mapping[str, str], others: Mapping[str, int]) -> list[str]:
    """A line for each suffix and reason, the most frequent first, and one for the files that are no images.

    Args:
        skipped: file → reason; reasons that differ only in numbers are one.
        others: suffix → number of files that are not read as images.
    """
    kinds: dict[tuple[str, str], list[str]] = {}
    for file in sorted(skipped):
        kinds.setdefault((suffix_of(file), re.sub(r"\d+", "#", skipped[file])), []).append(file)
    lines = []
    for (suffix, _), files in sorted(kinds.items(), key=lambda kind: -len(kind[1])):
        if len(files) == 1:
            lines.append(f"skipped {files[0]}: {skipped[files[0]]}")
        else:
            more = ", …" if len(files) > NAMED else ""
            lines.append(f"skipped {len(files):,} {suffix}: {skipped[files[0]]}: {', '.join(files[:NAMED])}{more}")
    if others:
        counts = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(others.items(), key=lambda one: -one[1]))
        lines.append(f"skipped {sum(others.values()):,} files that are no images: {counts}")
    return [printable(line) for line in lines]


def suffix_of(file: str) -> str:
    """The suffix of a file in small letters, or words that stand for none.

    Args:
        file: its name.
    """
    return PurePosixPath(file).suffix.lower() or "without a suffix"

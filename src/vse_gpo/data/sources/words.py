"""``vse-prepare vocabulary``: the vocabulary of a data set's captions, in the form of SCAN's."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vse_gpo.data.files import read_lines
from vse_gpo.data.layout import SPLITS, by_split
from vse_gpo.data.sources.read import read_captions
from vse_gpo.data.vocabulary import SPECIAL, TreebankWords, scan_json
from vse_gpo.errors import VSEError, first_line
from vse_gpo.storage.writing import write_text


def prepare_vocabulary(*, source: str, out: str, min_count: int, splits: Sequence[str], seed: int) -> None:
    """Write the vocabulary of a data set's captions in the order of their first use, and print how much it covers.

    Args:
        source: the data set's folder, or a caption list as ``vse-prepare`` reads it.
        out: vocabulary file.
        min_count: how often a word must occur to be kept.
        splits: whose captions are counted.
        seed: assigns images to splits, if a list has none.

    Raises:
        VSEError: if the captions cannot be read, no word is kept, or ``out`` is another vocabulary, which models may
            need.
    """
    captions = captions_of(Path(source).expanduser(), splits, seed)
    words = TreebankWords()
    counts = Counter(word for caption in captions for word in words.split(caption))
    kept = [word for word, count in counts.items() if count >= min_count]
    if not kept:
        raise VSEError(f"{source}: no word occurs {min_count} times in {len(captions):,} captions; lower min_count=")
    file, text = Path(out).expanduser(), scan_json(kept)
    if file.exists() and _differs(file, text):
        raise VSEError(f"{out}: exists and is something else, which models may need; name a new file")
    write_text(file, text)
    known = sum(counts[word] for word in kept)
    print(f"{counts.total():,} words in {len(captions):,} captions of {', '.join(splits)}, {len(counts):,} different")
    print(f"kept {len(kept):,} that occur {min_count} times or more: {100 * known / counts.total():.2f} % of all words")
    print(f"{out}: {len(kept) + len(SPECIAL):,} words with {', '.join(SPECIAL)}")


def captions_of(source: Path, splits: Sequence[str], seed: int) -> list[str]:
    """The captions of some splits, split by split, each image's together.

    Args:
        source, splits, seed: see ``prepare_vocabulary``.

    Raises:
        VSEError: if they cannot be read.
    """
    if not splits:
        raise VSEError("splits=[]: expected at least one")
    if source.is_dir():
        return [caption for name in splits for caption in read_lines(source / "precomp" / f"{name}_caps.txt")]
    if unknown := [name for name in splits if name not in SPLITS.values()]:
        raise VSEError(f"splits=[{unknown[0]}]: expected some of {', '.join(dict.fromkeys(SPLITS.values()))}")
    images = by_split(read_captions(source).described, seed)
    return [one.caption for name in splits for own in images[name].values() for one in own]


def _differs(file: Path, text: str) -> bool:
    try:
        return file.read_text(encoding="utf-8") != text
    except (OSError, ValueError) as error:
        raise VSEError(f"{file}: cannot be replaced ({first_line(error)}); name a new file") from error

"""python -m vse_gpo.prepare SOURCE OUT : write captions and images of any source as the files that the data sets read.

python -m vse_gpo.prepare vocabulary SOURCE OUT : write the vocabulary that a BiGRU reads.
"""

import sys

from vse_gpo.cli.run import run_command

VOCABULARY = "vocabulary"  # as the first word


def main() -> None:
    """The command."""
    if sys.argv[1:2] == [VOCABULARY]:
        del sys.argv[1]
        run_command("vse_gpo.data.sources.words:prepare_vocabulary", "prepare_vocabulary", words=("source", "out"))
    else:
        run_command("vse_gpo.data.sources.run:prepare", "prepare", words=("source", "out"))


if __name__ == "__main__":
    main()

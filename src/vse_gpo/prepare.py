"""python -m vse_gpo.prepare SOURCE OUT : write captions of any source as the files that the data sets read."""

from vse_gpo.cli.run import run_command


def main() -> None:
    """The command."""
    run_command("vse_gpo.data.sources:prepare", "prepare", words=("source", "out"))


if __name__ == "__main__":
    main()

"""python -m vse_gpo.search.duplicates index=INDEX : copies among the images of an index; nothing is deleted."""

from vse_gpo.cli.run import run_command


def main() -> None:
    """The command."""
    run_command("vse_gpo.search.listing:list_copies", "duplicates", bare="index")


if __name__ == "__main__":
    main()

"""python -m vse_gpo.app index=INDEX : serve a page that finds images by a text or by an image."""

from vse_gpo.cli.run import run_command


def main() -> None:
    """The command."""
    run_command("vse_gpo.search.serving:serve_page", "app", bare="index", computes=True)


if __name__ == "__main__":
    main()

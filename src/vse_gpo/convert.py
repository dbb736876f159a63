"""python -m vse_gpo.convert MODEL OUT : save a released .pth or a training checkpoint as a model folder."""

from vse_gpo.cli.run import run_command


def main() -> None:
    """The command."""
    run_command("vse_gpo.checkpoints.conversion:convert", "convert", words=("model", "out"))


if __name__ == "__main__":
    main()

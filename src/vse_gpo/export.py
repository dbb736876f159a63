"""python -m vse_gpo.export model=… out=FOLDER format=onnx : export both encoders, to run without this package."""

from vse_gpo.cli.run import run_command


def main() -> None:
    """The command."""
    run_command("vse_gpo.checkpoints.export:export", "export", bare="model")


if __name__ == "__main__":
    main()

"""python -m vse_gpo.export model=… out=FOLDER format=onnx : both encoders, to run without this package."""

from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig

from vse_gpo.commands import ignore_remarks, run_command
from vse_gpo.errors import VSEError

FORMATS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch": ()}  # and the packages that each needs


def main() -> None:
    """The command."""
    run_command(export, "export")


def export(config: DictConfig) -> None:
    """Write both encoders, check them against the model, and tell how close they are.

    Raises:
        VSEError: if the format is unknown, its packages are missing, or the model cannot be exported.
    """
    if config.format not in FORMATS:
        raise VSEError(f"format={config.format}: no such format, expected one of {', '.join(FORMATS)}")
    if missing := [name for name in FORMATS[config.format] if find_spec(name) is None]:
        raise VSEError(f"format={config.format} needs {', '.join(missing)}; install them: pip install vse_gpo[export]")

    from vse_gpo.checkpoints import load_model
    from vse_gpo.towers import WRITERS, export_towers

    ignore_remarks()
    model = load_model(config.model, tokenizer=config.tokenizer, vocabulary=config.vocabulary)
    kind, write = WRITERS[config.format]
    differences = export_towers(model, Path(config.out), write, kind=kind, seed=config.seed)
    for tower, difference in differences.items():
        print(f"{tower}.{kind}: embeddings differ from the model's by {difference:.1e} at most")
    print(f"written to {config.out}")


if __name__ == "__main__":
    main()

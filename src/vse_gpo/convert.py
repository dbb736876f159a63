"""python -m vse_gpo.convert MODEL OUT : a released .pth or a training's checkpoint as a folder to load models from."""

import argparse
from pathlib import Path

from vse_gpo.commands import errors_as_lines


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="vse-convert",
        description="Write a model as settings, weights (safetensors) and tokeniser, for VSE.from_pretrained.",
    )
    parser.add_argument("model", help="a released model_best.pth, or a checkpoint.ckpt of a training")
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--tokenizer", help="of a released BERT model: hub name or folder (bert-base-uncased)")
    parser.add_argument("--vocabulary", help="of a released BiGRU model: its SCAN vocabulary file")
    arguments = parser.parse_args()
    with errors_as_lines():
        from vse_gpo.checkpoints import load_model

        model = load_model(arguments.model, tokenizer=arguments.tokenizer, vocabulary=arguments.vocabulary)
        model.save_pretrained(arguments.out)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()

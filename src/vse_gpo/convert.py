"""python -m vse_gpo.convert MODEL OUT : a released .pth or a training's checkpoint as a folder to load models from."""

import argparse
from pathlib import Path

from vse_gpo.commands import errors_as_lines


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="vse-convert",
        description="Write a model as settings, weights (safetensors), tokeniser and card, for VSE.from_pretrained.",
    )
    parser.add_argument("model", help="a released model_best.pth, or a checkpoint.ckpt of a training")
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--tokenizer", help="of a released BERT model: hub name or folder (bert-base-uncased)")
    parser.add_argument("--vocabulary", help="of a released BiGRU model: its SCAN vocabulary file")
    parser.add_argument(
        "--trunk", help="of a model trained on the features of vse-extract: the trunk beside them, to read pictures"
    )
    parser.add_argument(
        "--metrics", type=Path, help="for the card: a run's metrics.json (that of the tested checkpoint)"
    )
    arguments = parser.parse_args()
    with errors_as_lines():
        from vse_gpo.card import metrics_of_checkpoint, model_card, read_metrics
        from vse_gpo.checkpoints import load_model
        from vse_gpo.trunks import with_trunk

        given = arguments.metrics
        metrics = metrics_of_checkpoint(Path(arguments.model)) if given is None else read_metrics(given)
        model = load_model(arguments.model, tokenizer=arguments.tokenizer, vocabulary=arguments.vocabulary)
        if arguments.trunk is not None:
            model = with_trunk(model, arguments.trunk)
        model.save_pretrained(arguments.out, card=model_card(arguments.out.name, model.architecture(), metrics))
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()

"""python scripts/plot_pooling.py RUN OUT.png : the coefficients that a model's poolings have learned, against rank.

RUN is a run's own folder, or anything else that holds a model: a checkpoint, a released .pth file, a saved folder.
Of 16×16 cells draw --image-sizes 205 230 256. A run draws the same after each epoch, in W&B as val/pooling.
"""

import argparse
import sys
from pathlib import Path

from vse_gpo.checkpoints.sources import load_model
from vse_gpo.errors import VSEError
from vse_gpo.training.callbacks.pooling_curves import draw_curves, model_curves, save_figure


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--image-sizes", type=int, nargs="+", default=[20, 28, 36, 64])
    parser.add_argument("--text-sizes", type=int, nargs="+", default=[5, 10, 15, 20, 25])
    parser.add_argument("--tokenizer", help="of a released BERT model: hub name or folder")
    parser.add_argument("--vocabulary", help="of a released BiGRU model")
    chosen = parser.parse_args()
    try:
        best = chosen.run / "checkpoints" / "best.ckpt"
        source = best if best.is_file() else chosen.run
        model = load_model(source, tokenizer=chosen.tokenizer, vocabulary=chosen.vocabulary)
        panels = model_curves(model, image_sizes=chosen.image_sizes, text_sizes=chosen.text_sizes)
        if not panels:
            raise VSEError(f"{source}: no pooling with coefficients, expected GPO for images or captions")
        save_figure(draw_curves(panels), chosen.out)
    except VSEError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

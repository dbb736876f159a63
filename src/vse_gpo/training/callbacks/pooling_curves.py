"""What poolings have learned: their coefficients against rank, drawn after every epoch (Chen et al. 2021, figure 5)."""

from collections.abc import Sequence

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from vse_gpo.errors import VSEError
from vse_gpo.figures.poolings import draw_curves, model_curves, save_figure
from vse_gpo.model import VSE
from vse_gpo.training.callbacks.pictures import log_picture, picture_path


class PoolingCurves(Callback):
    """Draws the coefficients after each validation into ``pooling/epoch_NN.png`` of the run's folder.

    W&B and TensorBoard get the figure too, as ``val/pooling``. Poolings without coefficients are left out.

    Args:
        image_sizes, text_sizes: set sizes to draw, one line each; a modality without sizes is left out.

    Raises:
        VSEError: if a size is less than 1.
    """

    def __init__(self, *, image_sizes: Sequence[int], text_sizes: Sequence[int]) -> None:
        if (smallest := min([*image_sizes, *text_sizes], default=1)) < 1:
            raise VSEError(f"curves of a pooling for sets of {smallest} items, expected sizes of at least 1")
        self.image_sizes = list(image_sizes)
        self.text_sizes = list(text_sizes)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        model: VSE = pl_module.model  # type: ignore[assignment]
        if panels := model_curves(model, image_sizes=self.image_sizes, text_sizes=self.text_sizes):
            path = picture_path(trainer, "pooling")
            save_figure(draw_curves(panels), path)
            log_picture(trainer.loggers, "val/pooling", path, trainer.global_step)

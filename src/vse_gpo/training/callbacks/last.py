"""The checkpoint to resume from."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """Lightning's callback, told to save at every epoch's end, also saves after every validation inside an epoch."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_last_batch:  # after which the epoch ends
            self.on_train_epoch_end(trainer, pl_module)

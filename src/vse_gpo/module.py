"""The LightningModule: one training step, and validation over every image and caption once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather
from torchmetrics.utilities.distributed import gather_all_tensors

from vse_gpo.batch import Batch, Indexed
from vse_gpo.data.split import Split
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE, check_weights
from vse_gpo.optimizer import parameter_groups
from vse_gpo.phases import Phase, Phases, freeze
from vse_gpo.retrieval import evaluate

IMAGES, CAPTIONS = 0, 1  # order of the evaluation loaders


class EmbeddingModule(pl.LightningModule):
    """Encodes every image and every caption of a split once, on any number of processes.

    Args:
        model: the two encoders.
    """

    def __init__(self, model: VSE) -> None:
        super().__init__()
        self.model = model
        self.embeddings: tuple[Tensor, Tensor] | None = None  # images and captions of the split, after a test
        self._collected: tuple[list[Indexed], list[Indexed]] = ([], [])

    def test_step(self, batch: Indexed, batch_idx: int, dataloader_idx: int) -> None:
        self.collect(batch, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        self.embeddings = self.gather(self.split("test").caption_to_image)

    def split(self, part: str) -> Split:
        """The train, dev or test split."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        split: Split = data.split(part)
        return split

    def collect(self, batch: Indexed, modality: int) -> None:
        """Encode a batch of images or captions and keep it."""
        encode = (self.model.image_encoder, self.model.text_encoder)[modality]
        self._collected[modality].append(Indexed(encode(batch.inputs).float(), batch.rows))

    def gather(self, caption_to_image: Any) -> tuple[Float[Tensor, "images dim"], Float[Tensor, "captions dim"]]:
        """What was collected, from all processes, in the order of the split."""
        collected, self._collected = self._collected, ([], [])
        images = self._in_order(collected[IMAGES], int(caption_to_image.max()) + 1, "images")
        return images, self._in_order(collected[CAPTIONS], len(caption_to_image), "captions")

    def _in_order(self, collected: list[Indexed], rows: int, what: str) -> Float[Tensor, "rows dim"]:
        """One embedding per row of the split, from all processes; an item that came twice counts once."""
        embeddings = torch.cat([part.inputs for part in collected])  # type: ignore[misc]
        index = torch.cat([part.rows for part in collected])
        if self.trainer.world_size > 1:
            embeddings, index = torch.cat(gather_all_tensors(embeddings)), torch.cat(gather_all_tensors(index))
        seen = torch.bincount(index, minlength=rows) > 0
        if not seen.all():
            raise VSEError(f"{int((~seen).sum())} of {rows} {what} were not encoded; evaluate the whole split")
        table = torch.empty(rows, embeddings.shape[1], device=embeddings.device)
        table[index] = embeddings
        return table


class RetrievalModule(EmbeddingModule):
    """Trains a VSE model on pairs and reports recalls at each epoch's end.

    Args:
        model: the two encoders.
        loss: similarity (B,B) → scalar; see ``vse_gpo.losses``.
        phases: freezing, negatives and loss ramp by epoch.
        optimizer: parameter groups → optimizer; takes ``lr`` of its own for the heads.
        schedule: optimizer → learning-rate schedule.
        schedule_interval: ``epoch`` or ``step``.
        image_backbone_scale, text_backbone_scale: the backbones' share of the learning rate.
        layer_decay: each layer's share of the learning rate of the one above it; see ``parameter_groups``.
        mask_same_image: other captions of the same image in a batch are no negatives; published runs count them.
        test_protocols: named protocols of the test; see ``vse_gpo.retrieval.protocols``.
        seed: of everything random in a training step.
        settings: the run's resolved config, kept in its checkpoints as plain containers.
    """

    def __init__(
        self,
        *,
        model: VSE,
        loss: nn.Module,
        phases: Phases,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler],
        schedule_interval: str,
        lr: float,
        image_backbone_scale: float,
        text_backbone_scale: float,
        mask_same_image: bool,
        test_protocols: Sequence[str],
        seed: int,
        settings: dict[str, Any],
        layer_decay: float = 1.0,
    ) -> None:
        super().__init__(model)
        self.loss = loss
        self.phases = phases
        self.optimizer = optimizer
        self.schedule = schedule
        self.schedule_interval = schedule_interval
        self.lr = lr
        self.image_backbone_scale = image_backbone_scale
        self.text_backbone_scale = text_backbone_scale
        self.layer_decay = layer_decay
        self.mask_same_image = mask_same_image
        self.test_protocols = list(test_protocols)
        self.seed = seed
        self.settings = settings
        self._frozen_by: Phase | None = None

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
        embeddings: tuple[Tensor, Tensor] = self.model(batch)
        return embeddings

    # training

    def configure_optimizers(self) -> Any:
        groups = parameter_groups(
            self.model,
            lr=self.lr,
            image_backbone_scale=self.image_backbone_scale,
            text_backbone_scale=self.text_backbone_scale,
            layer_decay=self.layer_decay,
        )
        groups[0]["params"] += list(self.loss.parameters())
        optimizer = self.optimizer(groups, lr=self.lr)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.schedule(optimizer), "interval": self.schedule_interval},
        }

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Everything random in a step follows from (seed, step, process), so a resumed run repeats it exactly."""
        torch.manual_seed(step_seed(self.seed, self.global_step, self.global_rank))
        if self._frozen_by is not self.phase:
            freeze(self.model.image_encoder.backbone, self.phase)
            self._frozen_by = self.phase

    @property
    def phase(self) -> Phase:
        """What holds in the current epoch."""
        return self.phases.at(self.current_epoch)

    def training_step(self, batch: Batch, batch_idx: int) -> Float[Tensor, ""]:
        images, captions = self.model(batch)
        images, captions = self._from_all_processes(images), self._from_all_processes(captions)
        not_negative = self._same_image(batch.image_index) if self.mask_same_image else None
        with torch.autocast(self.device.type, enabled=False):  # a margin of 0.2 needs more than half precision
            loss = self.loss(images @ captions.T, self.phase.negatives == "hardest", not_negative)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(images))
        if self.phase.ramp_loss:
            loss = loss * (batch_idx / self.trainer.num_training_batches)
        return loss

    def _from_all_processes(self, embeddings: Float[Tensor, "batch dim"]) -> Float[Tensor, "all dim"]:
        """Every process's embeddings, with gradient; DDP's mean over processes then gives the exact gradient."""
        if self.trainer.world_size == 1:
            return embeddings
        return torch.cat(all_gather(embeddings))

    def _same_image(self, image_index: Int[Tensor, " batch"]) -> Bool[Tensor, "all all"]:
        everywhere = torch.cat(gather_all_tensors(image_index)) if self.trainer.world_size > 1 else image_index
        return everywhere[:, None] == everywhere[None, :]

    # evaluation

    def validation_step(self, batch: Indexed, batch_idx: int, dataloader_idx: int) -> None:
        self.collect(batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:  # only part of the data was run
            self._collected = ([], [])
            return
        for name, value in self._evaluate("dev", ["all"])["all"].items():
            self.log(f"val/{name}", value, prog_bar=name == "rsum")

    def on_test_epoch_end(self) -> None:
        for protocol, metrics in self._evaluate("test", self.test_protocols).items():
            self.log_dict({f"test/{protocol}/{name}": value for name, value in metrics.items()})

    def _evaluate(self, part: str, protocols: Sequence[str]) -> dict[str, dict[str, float]]:
        index = self.split(part).caption_to_image
        images, captions = self.gather(index)
        return evaluate(images, captions, caption_to_image=index, protocols=protocols)

    # checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["settings"] = self.settings

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model before anything of it is loaded."""
        check_weights(checkpoint["state_dict"], self.state_dict())


def step_seed(seed: int, step: int, process: int) -> int:
    """A seed of its own for every step and process of a run."""
    return int(np.random.SeedSequence((seed, step, process)).generate_state(1)[0])

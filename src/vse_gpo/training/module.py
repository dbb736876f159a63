"""The LightningModule: one training step, and validation over every image and caption once."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.utilities import GradClipAlgorithmType
from torch import Tensor, nn

from vse_gpo.batch import Batch, Indexed
from vse_gpo.encoder import SharedBatchNorm
from vse_gpo.errors import VSEError
from vse_gpo.evaluation.encoding import Collector, EmbeddingModule
from vse_gpo.losses import share_logits
from vse_gpo.model import EMBEDDING, VSE
from vse_gpo.retrieval.protocols import Gallery, run_protocols
from vse_gpo.retrieval.recalls import Outcome
from vse_gpo.retrieval.similarity import Similarities
from vse_gpo.storage.weights import check_weights
from vse_gpo.training.compilation import compile_networks
from vse_gpo.training.dense_captions import DenseCaptions, encode_pairs, whole_loss
from vse_gpo.training.gathering import outputs_of_all, rows_of_all
from vse_gpo.training.objective import Objective
from vse_gpo.training.optimization import Groups, Optimization, steps_of_run
from vse_gpo.training.phases import Phase, Phases, freeze

AUTO = "auto"
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")  # Lightning's names, weights in float32


class StepOutputs(TypedDict):
    """What a training step gives: the loss to step on, and what callbacks watch."""

    loss: Float[Tensor, ""]
    images: Float[Tensor, "all dim"]  # embeddings of all processes
    captions: Float[Tensor, "all dim"]
    not_negative: Bool[Tensor, "all all"] | None  # pairs beside the diagonal that are no negatives


class RetrievalModule(EmbeddingModule):
    """Trains a VSE model on pairs and reports recalls at each epoch's end.

    Args:
        model: the two encoders.
        loss: similarity (B,B) → scalar; see ``vse_gpo.losses``.
        phases: freezing, negatives and loss ramp by epoch.
        optimization: optimizer, schedule and parameter groups.
        mask_same_image: other captions of an image in a batch are not negatives; published runs count them as such.
        test_protocols: named protocols of the test; see ``vse_gpo.retrieval.protocols``.
        seed: seed of everything random in a training step.
        similarity_weights: see ``Objective``; None trains the embedding's similarity alone.
        micro_batch: pairs that a process encodes at once in a training step; see ``micro_batches``. None takes the
            whole batch, ``auto`` the most that fit into the memory, which ``callbacks.trial.MemoryTrial`` finds.
        image_checkpointing, text_checkpointing: compute the activations of a backbone again in the backward pass,
            instead of keeping them; see ``Backbone.enable_checkpointing``.
        dense: what dense captions add to the loss; None leaves them out.
        compile: mode of ``torch.compile`` for the networks inside the backbones; see ``compilation``. None compiles
            nothing.
        settings: the run's resolved config, kept in its checkpoints as plain containers.
    """

    def __init__(
        self,
        *,
        model: VSE,
        loss: nn.Module,
        phases: Phases,
        optimization: Optimization,
        mask_same_image: bool,
        test_protocols: Sequence[str],
        seed: int,
        settings: dict[str, Any],
        similarity_weights: Mapping[str, float] | None = None,
        dense: DenseCaptions | None = None,
        micro_batch: int | str | None = None,
        image_checkpointing: bool = False,
        text_checkpointing: bool = False,
        compile: str | None = None,
    ) -> None:
        super().__init__(model)
        if image_checkpointing:
            model.image_encoder.backbone.enable_checkpointing("backbone.checkpointing")
        if text_checkpointing:
            model.text_encoder.backbone.enable_checkpointing("text.checkpointing")
        if compile is not None:
            compile_networks(model, compile)
        if micro_batch not in (None, AUTO) and not (isinstance(micro_batch, int) and micro_batch >= 1):
            raise VSEError(f"micro_batch={micro_batch}, expected at least 1 pair, auto, or null for the whole batch")
        self.objective = Objective(loss, similarity_weights or {EMBEDDING: 1.0})
        self.objective.check(model)
        share_logits(loss, model.logits)
        self.loss = loss
        self.dense = dense
        self.phases = phases
        self.optimization = optimization
        self.mask_same_image = mask_same_image
        self.test_protocols = list(test_protocols)
        self.seed = seed
        self.seeks_micro_batch = micro_batch == AUTO
        self.micro_batch = micro_batch if isinstance(micro_batch, int) else None
        self.settings = settings
        self._collectors = {"": self.collector}  # prefix of the metrics' names → its collector
        self.tested: dict[str, dict[str, Outcome]] = {}  # the same prefix → protocol → outcome of the last test
        self._frozen_by: Phase | None = None

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
        embeddings: tuple[Tensor, Tensor] = self.model(batch)
        return embeddings

    # training

    def configure_optimizers(self) -> Any:
        return self.optimization.build(self._groups(), self._steps_of_run)

    def _groups(self) -> Groups:
        return self.optimization.groups(self.model, self.loss)

    def _steps_of_run(self) -> int:
        """Optimizer steps of the run; the trainer's estimate starts the loader before a resumed run knows its place."""
        return steps_of_run(
            batches=len(self.data.train_dataloader()),
            limit=self.trainer.limit_train_batches,
            accumulated=self.trainer.accumulate_grad_batches,
            max_epochs=self.trainer.max_epochs,
            max_steps=self.trainer.max_steps,
        )

    def on_fit_start(self) -> None:
        """Put the model in train mode: a loaded model is in eval mode, and Lightning would leave it there.

        Raises:
            VSEError: if the precision has weights that are not float32, as those of the poolings are, or is float16
                with a fused optimizer, which would unscale gradients itself, after they are clipped and measured.
        """
        if self.trainer.precision not in PRECISIONS:
            raise VSEError(f"trainer.precision={self.trainer.precision}, expected one of {', '.join(PRECISIONS)}")
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if scaled and any(
            getattr(optimizer, "_step_supports_amp_scaling", False) for optimizer in self.trainer.optimizers
        ):
            raise VSEError(
                f"trainer.precision={self.trainer.precision} with a fused optimizer: its gradients cannot be clipped; "
                "set trainer.precision=bf16-mixed or optimizer.build.fused=false"
            )
        self.train()

    def use_micro_batch(self, size: int | None) -> None:
        """Encode so many pairs at once from now on; None takes the whole batch."""
        self.micro_batch, self.seeks_micro_batch = size, False

    def on_train_start(self) -> None:
        """Let BatchNorms share their statistics, after the callbacks have found the micro-batch.

        Raises:
            VSEError: if the micro-batch was to be found, and no callback has done it.
        """
        if self.seeks_micro_batch:
            raise VSEError("micro_batch=auto without the callback that finds it; leave callbacks.trial in")
        for part in self.model.modules():
            if isinstance(part, SharedBatchNorm):  # the second encoding of a micro-batch happens apart from the others
                part.is_shared = self.trainer.world_size > 1 and self.micro_batch is None

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the step by (seed, step, process), so that a resumed run repeats everything random in it exactly."""
        part = batch_idx % self.trainer.accumulate_grad_batches  # batch within the step
        torch.manual_seed(step_seed(self.seed, self.global_step, self.global_rank, part))
        if self._frozen_by is not self.phase:
            freeze(self.model.image_encoder.backbone, self.phase)
            self._frozen_by = self.phase

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip for fused optimizers too; Lightning refuses this even in bfloat16, where no gradient is scaled."""
        precision = self.trainer.precision_plugin
        if isinstance(precision, MixedPrecision) and precision.scaler is None:
            algorithm = GradClipAlgorithmType((gradient_clip_algorithm or "norm").lower())
            Precision.clip_gradients(precision, optimizer, gradient_clip_val or 0.0, algorithm)
        else:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    @property
    def phase(self) -> Phase:
        """The phase of the next step."""
        return self.phases.at(self.phases.epoch_of(self.current_epoch, self.global_step))

    def training_step(self, batch: Batch, batch_idx: int) -> StepOutputs:
        """The loss to step on and, for callbacks, all processes' embeddings and the mask of pairs that do not count."""
        processes = self.trainer.world_size
        own = encode_pairs(self.model, batch, self.micro_batch, self.dense)
        outputs = [outputs_of_all(output, processes) for output in own]
        not_negative = None
        if self.mask_same_image:
            index = rows_of_all(batch.image_index, processes)
            not_negative = index[:, None] == index[None, :]
        loss_of = partial(self.objective.loss_of, self.model, hardest=self.phase.hardest, not_negative=not_negative)
        loss = whole_loss(loss_of, self.dense, *outputs)
        images, captions = outputs[:2]
        self.log("train/loss", loss, batch_size=len(images.embeddings))  # in the bar it would be read at every step
        if self.phase.ramp_loss:
            loss = loss * self.phases.ramp(batch_idx / self.trainer.num_training_batches, self.global_step)
        return {
            "loss": loss,
            "images": images.embeddings.detach(),
            "captions": captions.embeddings.detach(),
            "not_negative": not_negative,
        }

    # evaluation

    def evaluate_beside(self, name: str, model: VSE) -> None:
        """Evaluate another model on everything this one is evaluated on; its metrics are called ``val/NAME/…``.

        Args:
            name: part of the metrics' names.
            model: model in eval mode, on this module's device; it stays out of this module's parameters.
        """
        self._collectors[f"{name}/"] = Collector(model)

    def validation_step(self, batch: Indexed, batch_idx: int, dataloader_idx: int) -> None:
        for collector in self._collectors.values():
            collector.add(batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:  # only part of the data was run
            for collector in self._collectors.values():
                collector.clear()
            return
        for prefix, outcomes in self._evaluate("dev", ["all"]).items():
            for name, value in outcomes["all"].metrics().items():
                self.log(f"val/{prefix}{name}", value, prog_bar=name == "rsum")

    def on_validation_end(self) -> None:
        """Free the embeddings, now that the callbacks have used them."""
        self.encoded = None

    def test_step(self, batch: Indexed, batch_idx: int, dataloader_idx: int) -> None:
        self.validation_step(batch, batch_idx, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        self.tested = self._evaluate("test", self.test_protocols)
        for prefix, outcomes in self.tested.items():
            for protocol, outcome in outcomes.items():
                self.log_dict({f"test/{prefix}{protocol}/{key}": value for key, value in outcome.metrics().items()})

    def on_test_end(self) -> None:
        self.on_validation_end()

    def _evaluate(self, part: str, protocols: Sequence[str]) -> dict[str, dict[str, Outcome]]:
        """Prefix of the names → protocol → outcome; keeps what the module's own model has encoded.

        If the embeddings are trained beside an interaction, ``embedding/`` is the prefix of what they give alone.
        """
        index = self.split(part).caption_to_image
        gathered = {
            prefix: collector.gather(index, processes=self.trainer.world_size)
            for prefix, collector in self._collectors.items()
        }
        self.encoded = gathered[""]
        ranked: dict[str, Similarities] = {}
        for prefix, split in gathered.items():
            ranked[prefix] = split.similarities()
            if len(self.objective.kinds) > 1:
                ranked[f"{prefix}{EMBEDDING}/"] = split.embedding_similarities()
        return {
            prefix: run_protocols(Gallery(similarities=compared, caption_to_image=index), protocols)
            for prefix, compared in ranked.items()
        }

    # checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["settings"] = self.settings

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model, or of other parameter groups, before loading anything from it."""
        check_weights(checkpoint["state_dict"], self.state_dict())
        here = {group["name"]: len(group["params"]) for group in self._groups()}
        for state in checkpoint.get("optimizer_states", []):
            there = {group.get("name"): len(group["params"]) for group in state["param_groups"]}
            if there != here:
                raise VSEError(
                    f"the checkpoint's optimizer has {len(there)} groups of parameters ({', '.join(map(str, there))}), "
                    f"expected {len(here)} ({', '.join(here)}); set optimizer.layer_decay as it was"
                )


def step_seed(seed: int, step: int, process: int, part: int = 0) -> int:
    """A distinct seed for every step and process of a run, and for every batch that a step accumulates."""
    return int(np.random.SeedSequence((seed, step, process), spawn_key=(part,) if part else ()).generate_state(1)[0])

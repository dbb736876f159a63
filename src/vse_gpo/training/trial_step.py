"""A training step that leaves no trace: the most memory that a run takes, before its first epoch."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.optim import Optimizer

from vse_gpo.batch import Batch, each_tensor, join_outputs
from vse_gpo.training.dense_captions import encode_pairs, whole_loss
from vse_gpo.training.module import RetrievalModule
from vse_gpo.training.phases import Phase, freeze


def run_trial_step(
    module: RetrievalModule,
    batch: Batch,
    *,
    phase: Phase,
    micro_batch: int | None,
    optimizers: Sequence[Optimizer],
    precision: AbstractContextManager[None],
    processes: int,
) -> None:
    """Forward and backward with all that a later step holds in memory; afterwards everything is as before.

    The process computes by itself: nothing is exchanged with others, who may be out of memory, and the hooks of DDP see
    no gradient.

    Args:
        module: in train mode, on its device.
        batch: pairs of this process, on the same device.
        phase: what is frozen, and which negatives count.
        micro_batch: pairs encoded at once; None takes the batch as a whole.
        optimizers: those of the run; they are given their state for the time of the step.
        precision: of a training step.
        processes: of the run; the similarities are as many as with the batches of all.

    Raises:
        RuntimeError: if the memory is not enough; see ``is_out_of_memory``.
    """
    with untouched(module, optimizers):
        freeze(module.model.image_encoder.backbone, phase)
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        fill_states(optimizers, trained)
        with precision:
            outputs = encode_pairs(module.model, batch, micro_batch, module.dense)
        everywhere = [join_outputs([own, *(processes - 1) * [each_tensor(Tensor.detach, own)]]) for own in outputs]
        loss_of = partial(module.objective.loss_of, module.model, hardest=phase.hardest, not_negative=None)
        loss = whole_loss(loss_of, module.dense, *everywhere)
        torch.autograd.grad(loss, trained, allow_unused=True)


def fill_states(optimizers: Sequence[Optimizer], trained: Sequence[nn.Parameter]) -> None:
    """Make optimizers without a state take the memory of their states, by a step with gradients of zero."""
    for optimizer in optimizers:
        if not optimizer.state:
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
            for parameter in trained:
                parameter.grad = None


@contextmanager
def untouched(module: nn.Module, optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Restore exactly: parameters, buffers, gradients, what trains, the optimizers' states and all random states.

    The copies are in the computer's memory, so that they take none of a GPU's. States that the optimizers already have,
    as in a resumed run, must not be changed.
    """
    parameters, tensors = list(module.parameters()), [*module.parameters(), *module.buffers()]
    before: list[Tensor] = [tensor.detach().to("cpu", copy=True) for tensor in tensors]
    trained = [(parameter.requires_grad, parameter.grad) for parameter in parameters]
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    settings = [dict(group) for group in groups]
    empty = [optimizer for optimizer in optimizers if not optimizer.state]
    generators = isolate_rng()
    generators.__enter__()
    try:
        yield
    finally:
        for optimizer in empty:
            optimizer.state.clear()
        for group, own in zip(groups, settings, strict=True):
            group.update(own)
        for parameter, (trains, gradient) in zip(parameters, trained, strict=True):
            parameter.requires_grad_(trains)
            parameter.grad = gradient
        with torch.no_grad():
            for tensor, values in zip(tensors, before, strict=True):
                tensor.copy_(values)
        generators.__exit__(None, None, None)  # it restores nothing after an error


def halves(pairs: int) -> list[int]:
    """Micro-batch sizes to try, the largest first: the batch in 1, 2, 4, 8, … equal parts, down to single pairs."""
    powers = range(pairs.bit_length() + 1)
    return list(dict.fromkeys(-(-pairs // 2**power) for power in powers))

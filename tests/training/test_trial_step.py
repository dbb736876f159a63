"""A trial step takes the memory of a step and leaves no trace."""

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from timm.optim import AdamP

from tests.helpers.tiny import WIDTH, tiny_data, tiny_module
from vse_gpo.encoder import ResidualProjection
from vse_gpo.training.phases import Phase
from vse_gpo.training.trial_step import fill_states, halves, run_trial_step, untouched

HARDEST = Phase(from_epoch=0, negatives="hardest", trunk="trainable")


def everything(module, optimizer) -> list:
    """All that a trial could change, as values."""
    return [
        {name: value.clone() for name, value in module.state_dict().items()},
        [(parameter.requires_grad, parameter.grad) for parameter in module.parameters()],
        [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups],
        {key: dict(value) for key, value in optimizer.state.items()},
        (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()),  # beartype draws from that of Python
    ]


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("trunk", ["frozen", "trainable"])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, AdamP, partial(torch.optim.SGD, momentum=0.9)])
def test_everything_is_as_before(micro_batch, trunk, optimizer):
    module = tiny_module(projection=ResidualProjection(WIDTH, 8))  # has BatchNorm
    module.model.image_encoder.backbone.requires_grad_(False)
    built = optimizer(module.parameters(), lr=0.1, weight_decay=0.1)
    before = everything(module, built)
    run_trial_step(
        module,
        tiny_data().largest_batch(),
        phase=Phase(from_epoch=0, negatives="hardest", trunk=trunk),
        micro_batch=micro_batch,
        optimizers=[built],
        precision=nullcontext(),
        processes=2,
    )
    torch.testing.assert_close(everything(module, built), before, rtol=0, atol=0)


def test_a_trial_that_fails_leaves_no_trace_either():
    module = tiny_module()
    optimizer = torch.optim.AdamW(module.parameters())
    before = everything(module, optimizer)

    def half() -> None:
        with untouched(module, [optimizer]):
            fill_states([optimizer], list(module.parameters()))
            np.random.random()
            torch.rand(3)
            module.model.image_encoder.projection.weight.data.zero_()
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        half()
    torch.testing.assert_close(everything(module, optimizer), before, rtol=0, atol=0)


def test_the_step_has_the_memory_of_the_optimizer_and_computes_every_gradient(monkeypatch):
    module = tiny_module()
    optimizer = torch.optim.AdamW(module.parameters())
    seen = {}

    def gradients(loss, trained, allow_unused):
        seen["states"], seen["trained"] = len(optimizer.state), len(trained)
        seen["loss"] = float(loss.detach())
        return ()

    monkeypatch.setattr(torch.autograd, "grad", gradients)
    run_trial_step(
        module,
        tiny_data().largest_batch(),
        phase=HARDEST,
        micro_batch=None,
        optimizers=[optimizer],
        precision=nullcontext(),
        processes=1,
    )
    assert seen["states"] == seen["trained"] == len(list(module.parameters()))
    assert seen["loss"] > 0


def test_a_resumed_optimizer_keeps_its_state():
    module = tiny_module()
    optimizer = torch.optim.AdamW(module.parameters())
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    before = {id(key): value["exp_avg"].clone() for key, value in optimizer.state.items()}
    with untouched(module, [optimizer]):
        fill_states([optimizer], list(module.parameters()))
    assert all(torch.equal(value["exp_avg"], before[id(key)]) for key, value in optimizer.state.items())


@pytest.mark.parametrize(
    ("pairs", "sizes"), [(128, [128, 64, 32, 16, 8, 4, 2, 1]), (96, [96, 48, 24, 12, 6, 3, 2, 1]), (5, [5, 3, 2, 1])]
)
def test_sizes_are_halved(pairs, sizes):
    assert halves(pairs) == sizes
    assert halves(1) == [1]

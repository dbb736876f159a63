"""AdamP of all parameters at once, against timm's, which is a copy of the authors' program and goes one by one."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import timm.optim
import torch
from torch import Tensor, nn

from tests.helpers.launches import Launches
from vse_gpo.training.adamp import AdamP, remove_radial

SETTINGS = {
    "published": {"weight_decay": 1e-4},
    "decay": {"weight_decay": 0.5, "wd_ratio": 0.2, "lr": 0.1},
    "no_decay": {"weight_decay": 0.0, "delta": 0.3},
    "nesterov": {"weight_decay": 1e-2, "nesterov": True, "betas": (0.8, 0.9)},
}


def weights() -> list[nn.Parameter]:
    torch.manual_seed(0)
    shapes = [(4, 6), (3, 2, 5, 5), (7,), (), (1, 8), (5, 1), (6, 4)]
    return [nn.Parameter(torch.randn(shape)) for shape in shapes]


def gradients(of: list[nn.Parameter], step: int) -> list[Tensor | None]:
    """Of all kinds: at right angles row by row, as a whole, not at all; zero; missing in the first steps."""
    draws = torch.Generator().manual_seed(step)
    drawn: list[Tensor | None] = [torch.randn(weight.shape, generator=draws) for weight in of]

    def upright(gradient: Tensor, weight: Tensor, rows: int) -> Tensor:
        view, along = gradient.reshape(rows, -1), weight.detach().reshape(rows, -1)
        return (view - along * (view * along).sum(1, keepdim=True) / along.square().sum(1, keepdim=True)).view_as(
            gradient
        )

    drawn[0] = upright(drawn[0], of[0], 4)
    drawn[1] = upright(drawn[1], of[1], 1)
    drawn[4] = torch.zeros_like(of[4])
    drawn[6] = None if step < 2 else drawn[6]
    return drawn


def trajectory(kind: Callable[..., torch.optim.Optimizer], settings: dict[str, Any]) -> list[list[Tensor]]:
    """The weights after every step."""
    own = weights()
    optimizer = kind([{"params": own[:3]}, {"params": own[3:], "lr": 1e-2}], **settings)
    steps = []
    for step in range(10):
        for weight, gradient in zip(own, gradients(own, step), strict=True):
            weight.grad = gradient
        optimizer.step()
        steps.append([weight.detach().clone() for weight in own])
    return steps


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_ten_steps_equal_the_authors(settings):
    found, expected = (trajectory(kind, settings) for kind in (AdamP, timm.optim.AdamP))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_steps_are_changed_row_by_row_as_a_whole_or_not_at_all():
    along = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    cases = {"rows": [[0.0, 1.0], [1.0, 0.0]], "whole": [[2.0, 1.0], [1.0, -1.0]], "not": [[1.0, 0.0], [0.0, 1.0]]}
    steps = [torch.ones(2, 2) for _ in cases]
    upright = [torch.tensor(gradient) for gradient in cases.values()]
    changed = remove_radial([along] * 3, upright, steps, delta=0.1, eps=1e-8)
    assert changed.tolist() == [True, True, False]
    torch.testing.assert_close(steps[0], torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    torch.testing.assert_close(steps[1], 1 - along * 3 / 5)
    assert torch.equal(steps[2], torch.ones(2, 2))


def test_a_step_reads_nothing_back_and_calls_few_operations_per_weight():
    counts = {}
    for kind in (AdamP, timm.optim.AdamP):
        own = [nn.Parameter(torch.randn(6, 4)) for _ in range(50)]
        for weight in own:
            weight.grad = torch.randn_like(weight)
        optimizer = kind(own, weight_decay=1e-4)
        optimizer.step()
        with Launches() as launches:
            optimizer.step()
        counts[kind] = launches.calls
    assert counts[AdamP]["_local_scalar_dense"] == 0
    assert counts[timm.optim.AdamP]["_local_scalar_dense"] >= 50  # what the count would show
    assert not {"_to_copy", "copy_", "lift_fresh"} & counts[AdamP].keys()  # nor is anything sent
    assert 2 * counts[AdamP].total() < counts[timm.optim.AdamP].total()


def test_a_checkpoint_of_timms_resumes():
    own, other = weights(), weights()
    theirs, ours = timm.optim.AdamP(own, weight_decay=1e-2), AdamP(other, weight_decay=1e-2)
    for step in range(4):
        for weight, copy, gradient in zip(own, other, gradients(own, step), strict=True):
            weight.grad = copy.grad = gradient
        if step == 2:
            ours.load_state_dict(deepcopy(theirs.state_dict()))
            for weight, copy in zip(own, other, strict=True):
                copy.data.copy_(weight)
        theirs.step()
        ours.step()
    for weight, copy in zip(own, other, strict=True):
        torch.testing.assert_close(copy, weight, rtol=1e-6, atol=1e-6)


def test_a_closure_gives_the_loss_and_its_gradients():
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = AdamP([weight])

    def closure():
        loss = weight.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4.0
    assert (weight < 1).all()

"""What the Triton kernels of the recurrence must equal; a program with TRITON_INTERPRET=1 checks them on a CPU."""

import sys

import torch
from torch import Tensor, nn

from vse_gpo.pooling.kernels.numpy_recurrence import NumpySteps
from vse_gpo.pooling.kernels.recurrence import WEIGHTS, Steps, fused_steps, small_gru
from vse_gpo.pooling.kernels.triton_recurrence import TritonSteps

CASES = {  # width of a state, sizes in descending order
    "one_item": (4, [1]),
    "several_sizes": (4, [9, 5, 3, 1]),
    "width_of_no_power_of_two": (5, [7, 2]),
    "published_width": (32, [36, 20]),
}


def states_and_gradients(steps: Steps, gru: nn.GRU, positions: Tensor, sizes: Tensor) -> list[Tensor]:
    """Set by set, with another gradient for every number."""
    weights = [torch.stack([getattr(gru, name), getattr(gru, f"{name}_reverse")]) for name in WEIGHTS]
    inputs = [part.to(positions).detach().requires_grad_() for part in (positions, *weights)]
    states = small_gru(steps, inputs[0], sizes, inputs[1:])
    places = torch.arange(states[0].numel()).view(states.shape[1:]) + 1000 * sizes[:, None, None]
    inside = torch.arange(len(positions)) < sizes[:, None]
    arriving = (places.sin() * inside[:, :, None]).to(positions)
    return [states, *torch.autograd.grad((states * arriving).sum(), inputs)]


def check(name: str, device: str) -> None:
    """Fail if the kernels' states or gradients differ by more than rounding from those in float64."""
    torch.manual_seed(0)
    width, lengths = CASES[name]
    gru, positions, sizes = nn.GRU(6, width, bidirectional=True), torch.randn(lengths[0], 6), torch.tensor(lengths)
    exact = states_and_gradients(NumpySteps(), gru, positions.double(), sizes)
    for turned in (slice(None), torch.arange(len(sizes)).flip(0)):  # the kernels take sizes in any order
        found = states_and_gradients(TritonSteps(), gru, positions.to(device), sizes[turned])
        torch.testing.assert_close(found[0].cpu()[turned].double(), exact[0], rtol=1e-5, atol=1e-5)
        for ours, expected in zip(found[1:], exact[1:], strict=True):
            torch.testing.assert_close(ours.cpu().double(), expected, rtol=1e-5, atol=1e-5 * expected.abs().max())


def check_trial(device: str) -> None:
    """The kernels pass their trial, and states that registers cannot hold are left to torch."""
    fused_steps.cache_clear()
    assert isinstance(fused_steps(torch.device(device), 32), TritonSteps)
    assert fused_steps(torch.device(device), 65) is None


if __name__ == "__main__":
    for case in CASES:
        check(case, "cpu")
    check_trial("cpu")
    sys.stdout.write(f"{len(CASES)} cases")

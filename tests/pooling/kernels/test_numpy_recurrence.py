"""The steps in numpy against a plain loop over lanes; ``test_recurrence.py`` compares them with torch's GRU."""

import torch

from vse_gpo.pooling.kernels.numpy_recurrence import NumpySteps


def plain(inputs, biases, weights, sizes):
    """Lane by lane and step by step: the last states of each."""
    items = len(inputs)
    lanes = []
    for way, start in [(0, 0), *((1, items - size) for size in sizes.tolist())]:
        state = torch.zeros(weights.shape[2], dtype=weights.dtype)
        states = [state] * (start + 1)
        for step in range(start, items):
            sums = (weights[way] @ state).view(3, -1) + biases[way]
            reset, update = (inputs[step, way, :2] + sums[:2]).sigmoid()
            new = (inputs[step, way, 2] + reset * sums[2]).tanh()
            state = (1 - update) * new + update * state
            states.append(state)
        lanes.append(torch.stack(states))
    return torch.stack(lanes, dim=1)


def test_steps_and_their_gradients_equal_a_plain_loop():
    torch.manual_seed(0)
    inputs, biases = torch.randn(6, 2, 3, 4).double().requires_grad_(), torch.randn(2, 3, 4).double().requires_grad_()
    weights, sizes = torch.randn(2, 12, 4).double(), torch.tensor([6, 3, 1])
    expected = plain(inputs, biases, weights, sizes)
    kept = NumpySteps().advance(inputs.detach(), biases.detach(), weights, sizes)
    torch.testing.assert_close(kept[0], expected.detach())

    arriving = torch.randn_like(expected[1:])
    of_inputs, of_biases = torch.autograd.grad((expected[1:] * arriving).sum(), (inputs, biases))
    at_inputs, at_sums = NumpySteps().retreat(arriving, kept, weights, sizes)
    torch.testing.assert_close(torch.stack([at_inputs[:, 0], at_inputs[:, 1:].sum(1)], dim=1), of_inputs)
    torch.testing.assert_close(torch.stack([at_sums[:, 0].sum(0), at_sums[:, 1:].sum((0, 1))]), of_biases)

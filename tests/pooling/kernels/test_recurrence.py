import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from vse_gpo.pooling.kernels.recurrence import run_both_ways


def packed(gru: nn.GRU, positions: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """PyTorch's own GRU over packed sequences."""
    sequences = pack_padded_sequence(
        positions.expand(len(sizes), -1, -1), sizes, batch_first=True, enforce_sorted=False
    )
    states, _ = pad_packed_sequence(gru(sequences)[0], batch_first=True, total_length=len(positions))
    forwards, backwards = states.chunk(2, dim=-1)
    return (forwards + backwards) / 2


@pytest.mark.parametrize("sizes", [[1], [5], [1, 2, 9], [3, 4, 5, 30]])
def test_states_and_gradients_equal_a_packed_gru(sizes):
    torch.manual_seed(0)
    gru = nn.GRU(6, 4, batch_first=True, bidirectional=True).double()
    positions = torch.randn(max(sizes), 6, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor(sizes)
    inside = (torch.arange(max(sizes)) < lengths[:, None])[:, :, None]
    arriving = torch.randn(len(sizes), max(sizes), 4, dtype=torch.float64) * inside
    learned = [positions, *gru.parameters()]

    found = run_both_ways(gru, positions, lengths)
    expected = packed(gru, positions, lengths)

    torch.testing.assert_close(found * inside, expected * inside)
    for ours, theirs in zip(
        torch.autograd.grad((found * arriving).sum(), learned),
        torch.autograd.grad((expected * arriving).sum(), learned),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)

"""A GRU over sequences of several lengths, packed and as a loop that a graph can hold."""

import pytest
import torch
from torch import nn

from vse_gpo.gru import _step_by_step, run_gru

LENGTHS = [5, 1, 3, 5]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_every_sequence_has_the_states_that_it_has_alone(bidirectional):
    torch.manual_seed(0)
    gru = nn.GRU(3, 4, batch_first=True, bidirectional=bidirectional)
    sequences = torch.randn(4, 6, 3)
    found = run_gru(gru, sequences, torch.tensor(LENGTHS))
    assert found.shape == (4, 6, 1 + bidirectional, 4)
    for row, length in enumerate(LENGTHS):
        alone, _ = gru(sequences[row : row + 1, :length])
        torch.testing.assert_close(found[row, :length].flatten(1), alone[0])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_loop_of_a_graph_gives_the_same_states(bidirectional):
    torch.manual_seed(0)
    gru = nn.GRU(3, 4, batch_first=True, bidirectional=bidirectional)
    sequences, lengths = torch.randn(4, 6, 3), torch.tensor(LENGTHS)
    with torch.no_grad():
        packed, loop = run_gru(gru, sequences, lengths), _step_by_step(gru, sequences, lengths)
    for row, length in enumerate(LENGTHS):
        torch.testing.assert_close(loop[row, :length], packed[row, :length])

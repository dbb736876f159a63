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


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mixed_precision_leaves_a_gru_in_float32(dtype, device):
    """On a GPU, ``autocast`` would run it in float16 even where bfloat16 is asked for."""
    torch.manual_seed(0)
    gru = nn.GRU(3, 4, batch_first=True, bidirectional=True).to(device)
    lengths, sequences = torch.tensor(LENGTHS), torch.randn(4, 6, 3, device=device).to(dtype)
    results = []
    for mixed in (False, True):
        with torch.autocast(device, dtype=torch.bfloat16, enabled=mixed):
            states = run_gru(gru, sequences if mixed else sequences.float(), lengths)
        results.append([states, *torch.autograd.grad(states.sum(), gru.parameters())])
    assert {part.dtype for part in results[1]} == {torch.float32}
    for plain, mixed in zip(*results, strict=True):
        torch.testing.assert_close(mixed, plain)

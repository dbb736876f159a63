import pytest
import torch
from torch import nn

from vse_gpo.errors import VSEError
from vse_gpo.pooling import GCN, Mean, SelfAttention, Seq2Seq
from vse_gpo.pooling.contextual import GraphConvolution

LENGTHS = torch.tensor([6, 1, 4])


def features(width: int = 5) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(3, 6, width)


def unit(items: torch.Tensor) -> torch.Tensor:
    return items / items.norm(dim=-1, keepdim=True)


def test_self_attention_equals_a_plain_loop():
    values = features()
    pooling = SelfAttention(5, d_hidden=7)
    first, _, second = pooling.scorer
    for items, length, pooled in zip(values, LENGTHS.tolist(), pooling(values, LENGTHS), strict=True):
        scores = torch.stack([second.weight @ torch.tanh(first.weight @ item) for item in items[:length]])
        weights = scores.exp() / scores.exp().sum()
        torch.testing.assert_close(pooled, sum(weight * item for weight, item in zip(weights, items, strict=False)))


def test_equal_scores_make_self_attention_the_mean():
    values = features()
    pooling = SelfAttention(5, d_hidden=7)
    nn.init.zeros_(pooling.scorer[2].weight)
    torch.testing.assert_close(pooling(values, LENGTHS), Mean()(values, LENGTHS))


def test_seq2seq_is_the_last_state_of_a_gru():
    values = features()
    pooling = Seq2Seq(5, bidirectional=False)
    for items, length, pooled in zip(values, LENGTHS.tolist(), pooling(values, LENGTHS), strict=True):
        states, _ = pooling.gru(items[:length])
        torch.testing.assert_close(pooled, states[-1])


def test_seq2seq_both_ways_averages_what_each_direction_ends_with():
    values = features()
    pooling = Seq2Seq(5)
    for items, length, pooled in zip(values, LENGTHS.tolist(), pooling(values, LENGTHS), strict=True):
        forwards, backwards = pooling.gru(items[:length])[0].chunk(2, dim=-1)
        torch.testing.assert_close(pooled, (forwards[-1] + backwards[0]) / 2)


def plain_convolution(layer: GraphConvolution, items: torch.Tensor) -> torch.Tensor:
    """One set, item by item, in eval mode."""
    changed = []
    for item in items:
        received = torch.zeros_like(item)
        for other in items:
            affinity = layer.query(item) @ layer.key(other) / len(items)
            received = received + affinity * layer.message(other)
        scale = layer.norm.weight / (layer.norm.running_var + layer.norm.eps).sqrt()
        normalised = (layer.output(received) - layer.norm.running_mean) * scale + layer.norm.bias
        changed.append(item + normalised)
    return torch.stack(changed)


def test_gcn_equals_a_plain_loop():
    values = features()
    pooling = GCN(5, pooling=Mean(), layers=2)
    for layer in pooling.layers:
        nn.init.normal_(layer.norm.weight)
    pooling(values, LENGTHS)  # statistics other than those at the start
    pooling.eval()
    for items, length, pooled in zip(values, LENGTHS.tolist(), pooling(values, LENGTHS), strict=True):
        reasoned = unit(items[:length])
        for layer in pooling.layers:
            reasoned = plain_convolution(layer, reasoned)
        torch.testing.assert_close(pooled, unit(reasoned).mean(0))


def test_a_new_gcn_pools_unit_vectors():
    values = features()
    pooling = GCN(5, pooling=Mean())
    torch.testing.assert_close(pooling(values, LENGTHS), Mean()(unit(values), LENGTHS))


def test_gcn_takes_its_statistics_from_true_items_alone():
    values = features()
    pooling = GCN(5, pooling=Mean(), layers=1)
    spoiled = values.clone()
    for row, length in enumerate(LENGTHS.tolist()):
        spoiled[row, length:] = float("nan")
    seen = []
    pooling.layers[0].norm.register_forward_hook(lambda norm, inputs, output: seen.append(inputs[0]))
    pooling(spoiled, LENGTHS)
    assert seen[0].shape == (int(LENGTHS.sum()), 5)
    expected = 0.9 * torch.ones(5) + 0.1 * seen[0].var(0)
    torch.testing.assert_close(pooling.layers[0].norm.running_var, expected)


def test_the_inner_pooling_gets_the_reasoned_items():
    values = features()
    inner = Seq2Seq(5, bidirectional=False)
    torch.testing.assert_close(GCN(5, pooling=inner)(values, LENGTHS), inner(unit(values), LENGTHS))


def test_vsrns_program_scales_each_channel_over_the_items():
    """A plain loop of both networks that the program has: Flickr30K's has no first norm, and a BatchNorm at the end."""
    torch.manual_seed(0)
    features, lengths = torch.randn(3, 4, 6), torch.tensor([4, 2, 3])
    for first_norm, batch_norm in ((True, False), (False, True)):
        pooling = GCN(6, pooling=Mean(), layers=1, norm_over="channels", first_norm=first_norm, batch_norm=batch_norm)
        pooling.eval()
        expected = []
        for one, length in zip(features, lengths.tolist(), strict=True):
            items = one[:length]  # a new layer changes nothing: its BatchNorm begins at zero
            for scale in (first_norm, True):
                items = items / items.norm(dim=0) if scale else items
            expected.append(items.mean(0))
        found = pooling(features, lengths)
        torch.testing.assert_close(found, torch.stack(expected) / (1 + 1e-5) ** (0.5 * batch_norm))
    with pytest.raises(VSEError, match="norm_over=rows, expected one of items, channels"):
        GCN(6, pooling=Mean(), norm_over="rows")

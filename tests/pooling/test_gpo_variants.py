import pytest
import torch
from torch import nn

from vse_gpo.errors import VSEError
from vse_gpo.pooling import GPO, Mean, RankPooling, SizePooling
from vse_gpo.pooling.gpo import TEMPERATURE, encode_positions
from vse_gpo.pooling.gpo_variants import (
    MLP,
    FeatureGenerator,
    InterpolatedVector,
    LearnedIndex,
    RankGRU,
    SinCos,
    SizeGenerator,
    Transformer,
)

LENGTHS = torch.tensor([7, 1, 4, 7])


def features(width: int = 5) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(4, 8, width)


def plain_pool(scores: list[torch.Tensor], values: torch.Tensor) -> torch.Tensor:
    """Set by set, channel by channel, from the scores (channels, length) of each set."""
    rows = []
    for items, of_set in zip(values, scores, strict=True):
        weights = (of_set / TEMPERATURE).softmax(-1).expand(values.shape[2], -1)
        ordered = items[: of_set.shape[1]].sort(0, descending=True).values
        rows.append((ordered.T * weights).sum(1))
    return torch.stack(rows)


def test_sines_and_a_bigru_are_gpo():
    values = features()
    gpo, generator = GPO(), SizeGenerator(positions=SinCos(), sequence=RankGRU())
    generator.sequence.gru, generator.linear = gpo.gru, gpo.linear
    torch.testing.assert_close(RankPooling(generator)(values, LENGTHS), gpo(values, LENGTHS))


def test_scores_are_made_once_per_distinct_length():
    sequence, asked = RankGRU(), []
    sequence.register_forward_hook(lambda module, inputs, output: asked.append(inputs[1].tolist()))
    RankPooling(SizeGenerator(positions=SinCos(), sequence=sequence))(features(), LENGTHS)
    assert asked == [[1, 4, 7]]


def test_each_channel_may_have_coefficients_of_its_own():
    values = features()
    together = SizeGenerator(positions=SinCos(), sequence=RankGRU(), channels=5)
    pooled = RankPooling(together)(values, LENGTHS)
    for channel in range(5):
        alone = SizeGenerator(positions=SinCos(), sequence=together.sequence)
        alone.linear.weight.data.copy_(together.linear.weight[channel : channel + 1])
        expected = RankPooling(alone)(values[:, :, channel : channel + 1], LENGTHS)
        torch.testing.assert_close(pooled[:, channel : channel + 1], expected)


def test_an_mlp_scores_each_position_alone():
    values = features()
    generator = SizeGenerator(positions=SinCos(), sequence=MLP())
    positions = encode_positions(7, 32)
    scores = torch.stack([generator.linear(generator.sequence.hidden(position).relu()) for position in positions])
    expected = plain_pool([scores[:length].T for length in LENGTHS.tolist()], values)
    torch.testing.assert_close(RankPooling(generator)(values, LENGTHS), expected)


def test_a_transformer_sees_the_positions_of_its_size_alone():
    values = features()
    generator = SizeGenerator(positions=SinCos(), sequence=Transformer())
    layer = generator.sequence.layer
    scores = [generator.linear(layer(encode_positions(n, 32)[None]))[0].T for n in LENGTHS.tolist()]
    torch.testing.assert_close(RankPooling(generator)(values, LENGTHS), plain_pool(scores, values))


def test_a_learned_index_is_read_from_its_start_and_ends():
    values = features()
    generator = SizeGenerator(positions=LearnedIndex(size=7), sequence=RankGRU())
    states = [generator.sequence(generator.positions(n), torch.tensor([n]))[0] for n in LENGTHS.tolist()]
    expected = plain_pool([generator.linear(of_size).T for of_size in states], values)
    torch.testing.assert_close(RankPooling(generator)(values, LENGTHS), expected)
    with pytest.raises(VSEError, match=r"a set of 8 items, .* ends at 7"):
        RankPooling(generator)(values, torch.tensor([1, 1, 8, 1]))


def test_a_vector_is_interpolated_to_each_length():
    values = features()
    generator = InterpolatedVector(4)
    torch.testing.assert_close(RankPooling(generator)(values, LENGTHS), Mean()(values, LENGTHS))  # at the start
    generator.scores.data.copy_(torch.tensor([0.3, -0.1, 0.0, 0.2]))
    seven = torch.tensor([0.3, 0.1, -0.1, -0.05, 0.0, 0.1, 0.2])
    expected = plain_pool([seven[None], torch.zeros(1, 1), generator.scores[None], seven[None]], values)
    torch.testing.assert_close(RankPooling(generator)(values, LENGTHS), expected)


def test_scores_may_depend_on_the_values():
    values = features()
    generator = FeatureGenerator(5)
    scores = []
    for items, length in zip(values, LENGTHS.tolist(), strict=True):
        ordered = items[:length].sort(0, descending=True).values
        forwards, backwards = generator.gru(encode_positions(length, 32) + generator.projection(ordered))[0].chunk(
            2, -1
        )
        scores.append(generator.linear((forwards + backwards) / 2).T)
    torch.testing.assert_close(RankPooling(generator)(values, LENGTHS), plain_pool(scores, values))


def test_without_a_projection_conditioned_scores_are_those_of_gpo():
    values = features()
    gpo, generator = GPO(), FeatureGenerator(5)
    generator.gru, generator.linear = gpo.gru, gpo.linear
    nn.init.zeros_(generator.projection.weight)
    nn.init.zeros_(generator.projection.bias)
    torch.testing.assert_close(RankPooling(generator)(values, LENGTHS), gpo(values, LENGTHS))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(VSEError, match="width 32 with 5 heads"):
        Transformer(32, heads=5)


@pytest.mark.parametrize(
    "generator",
    [
        SizeGenerator(positions=SinCos(), sequence=Transformer()),
        SizeGenerator(positions=SinCos(), sequence=MLP()),
        SizeGenerator(positions=LearnedIndex(), sequence=RankGRU()),
        InterpolatedVector(),
    ],
)
def test_scores_of_the_size_alone_give_coefficients_and_the_same_pooling(generator):
    values, pooling = features(), SizePooling(generator)
    torch.testing.assert_close(pooling(values, LENGTHS), RankPooling(generator)(values, LENGTHS))
    rows = pooling.coefficients(LENGTHS)
    for row, length, items in zip(rows, LENGTHS.tolist(), values, strict=True):
        assert row[:length].sum().item() == pytest.approx(1)
        assert not row[length:].any()
        expected = row[:length] @ items[:length].sort(0, descending=True).values
        torch.testing.assert_close(pooling(items[None], torch.tensor([length]))[0], expected)
    with pytest.raises(VSEError, match="a set of length 0"):
        pooling.coefficients(torch.tensor([3, 0]))


def test_sines_and_a_bigru_have_the_coefficients_of_gpo():
    gpo, generator = GPO(), SizeGenerator(positions=SinCos(), sequence=RankGRU())
    generator.sequence.gru, generator.linear = gpo.gru, gpo.linear
    torch.testing.assert_close(SizePooling(generator).coefficients(LENGTHS), gpo.coefficients(LENGTHS))


def test_scores_for_each_channel_are_not_pooled_as_if_they_were_one_row():
    generator = SizeGenerator(positions=SinCos(), sequence=MLP(), channels=5)
    with pytest.raises(VSEError, match="SizePooling with 5 rows of scores, expected one for all channels"):
        SizePooling(generator)(features(), LENGTHS)

"""What holds for every interaction: plain loops, padding, blocks, gradients and what is refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import leaky_relu, normalize

from tests.helpers.noted_products import NotedProducts
from vse_gpo.batch import Features
from vse_gpo.errors import VSEError
from vse_gpo.interaction import HardAssignment, MaxSim, ScanImageToText, ScanTextToImage
from vse_gpo.interaction import interaction as shared

# each relevance below is that of one image's items and one caption's, written as the papers have it


def attended_cosines(queries, context, scale):
    scores = leaky_relu(context @ queries.T, 0.1)  # (context items, query items)
    scores = scores / (scores.norm(dim=1, keepdim=True) + 1e-8)
    attended = torch.softmax(scale * scores, dim=0).T @ context
    return [float(torch.cosine_similarity(q, a, dim=0)) for q, a in zip(queries, attended, strict=True)]


def lse(values, scale):
    return math.log(sum(math.exp(scale * value) for value in values)) / scale


def best(items, others):
    return [max(float(item @ other) for other in others) for item in items]


def mean(values):
    return sum(values) / len(values)


FAMILY = {
    "scan_t2i": (ScanTextToImage(), lambda v, e: lse(attended_cosines(e, v, 9.0), 6.0)),
    "scan_i2t": (ScanImageToText(), lambda v, e: lse(attended_cosines(v, e, 4.0), 5.0)),
    "scan_t2i_mean": (ScanTextToImage(aggregate="mean"), lambda v, e: mean(attended_cosines(e, v, 9.0))),
    "scan_i2t_max": (ScanImageToText(aggregate="max"), lambda v, e: max(attended_cosines(v, e, 4.0))),
    "scan_t2i_sum": (ScanTextToImage(aggregate="sum"), lambda v, e: sum(attended_cosines(e, v, 9.0))),
    "filip": (MaxSim(), lambda v, e: (mean(best(v, e)) + mean(best(e, v))) / 2),
    "colbert": (MaxSim("t2i", "sum"), lambda v, e: sum(best(e, v))),
    "maxsim_i2t": (MaxSim("i2t"), lambda v, e: mean(best(v, e))),
    "chan": (HardAssignment(), lambda v, e: mean(best(e, v))),
    "chan_bigru": (HardAssignment("logsumexp"), lambda v, e: math.log(sum(math.exp(s / 0.1) for s in best(e, v)))),
}


def sets(count: int, longest: int, dim: int = 8, seed: int = 0) -> Features:
    """Random unit items; padding is NaN, which would be seen wherever it takes part."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=generator)
    lengths[0], lengths[-1] = 1, longest
    values = normalize(torch.randn(count, longest, dim, generator=generator), dim=-1)
    values[torch.arange(longest) >= lengths[:, None]] = torch.nan
    return Features(values, lengths)


def by_loop(name: str, images: Features, captions: Features) -> torch.Tensor:
    relevance = FAMILY[name][1]
    return torch.tensor(
        [
            [relevance(v[:n], e[:m]) for e, m in zip(captions.values, captions.lengths, strict=True)]
            for v, n in zip(images.values, images.lengths, strict=True)
        ]
    )


@pytest.mark.parametrize("name", FAMILY)
def test_it_equals_a_plain_loop(name):
    images, captions = sets(5, 6), sets(7, 4, seed=1)
    torch.testing.assert_close(FAMILY[name][0](images, captions), by_loop(name, images, captions), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILY)
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 7), st.integers(1, 5), st.integers(0, 99))
def test_blocks_change_nothing(name, images, captions, regions, words, limit):
    interaction, (v, e) = FAMILY[name][0], (sets(images, regions), sets(captions, words, seed=1))
    whole = interaction(v, e)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "AT_ONCE", limit)
        torch.testing.assert_close(interaction(v, e), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILY)
def test_gradients_are_those_of_one_block_and_padding_has_none(name, monkeypatch):
    def gradients():
        images, captions = (
            Features(part.values.double().requires_grad_(), part.lengths) for part in (sets(5, 6), sets(7, 4, seed=1))
        )
        weights = torch.randn(5, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        (FAMILY[name][0](images, captions) * weights).sum().backward()
        return [(part.values.grad, part) for part in (images, captions)]

    whole = gradients()
    monkeypatch.setattr(shared, "AT_ONCE_WITH_GRADIENT", 30)
    for (expected, _), (found, part) in zip(whole, gradients(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-10)
        assert found[part.values.isnan()].abs().sum() == 0
        assert found.abs().sum() > 0


@pytest.mark.parametrize("name", FAMILY)
def test_float64_stays_exact_and_half_precision_becomes_float32(name):
    interaction, (images, captions) = FAMILY[name][0], (sets(3, 4), sets(4, 3, seed=1))
    exact = interaction(*(Features(part.values.double(), part.lengths) for part in (images, captions)))
    assert exact.dtype == torch.float64
    numeric = torch.autograd.gradcheck(
        lambda v, e: interaction(Features(v, images.lengths), Features(e, captions.lengths)),
        [part.values.nan_to_num().double().requires_grad_() for part in (images, captions)],
    )
    assert numeric
    half = interaction(*(Features(part.values.bfloat16(), part.lengths) for part in (images, captions)))
    assert half.dtype == torch.float32


@pytest.mark.parametrize("name", FAMILY)
def test_mixed_precision_rounds_the_items_and_their_products_only(name):
    def found(mixed):
        images, captions = (
            Features(normalize(part.values.nan_to_num(), dim=2).requires_grad_(), part.lengths)
            for part in (sets(5, 6), sets(7, 4, seed=1))
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed), NotedProducts() as products:
            similarity = FAMILY[name][0](images, captions)
        gradients = torch.autograd.grad(similarity.square().sum(), (images.values, captions.values))
        return similarity, gradients, products.types

    similarity, gradients, seen = found(mixed=False)
    rounded, their_gradients, in_half = found(mixed=True)
    assert set(seen) == {torch.float32}
    assert torch.bfloat16 in in_half
    assert rounded.dtype == torch.float32
    assert (rounded - rounded.bfloat16().float()).abs().max() > 0  # what follows the products is not rounded
    torch.testing.assert_close(rounded, similarity, atol=0.03, rtol=0.03)
    for one, exact in zip(their_gradients, gradients, strict=True):
        assert torch.cosine_similarity(one.flatten(), exact.flatten(), dim=0) > 0.95  # of near matches another is best


@pytest.mark.parametrize("name", FAMILY)
def test_items_of_zeros_give_no_nan(name):
    nothing = Features(torch.zeros(2, 3, 4, requires_grad=True), torch.tensor([3, 2]))
    similarity = FAMILY[name][0](nothing, nothing)
    similarity.sum().backward()
    assert torch.isfinite(similarity).all()
    assert torch.isfinite(nothing.values.grad).all()


def ones(count: int, width: int, length: int) -> Features:
    return Features(torch.ones(count, 2, width), torch.full((count,), length))


@pytest.mark.parametrize(
    ("images", "captions", "message"),
    [
        (ones(1, 3, 2), ones(1, 4, 2), "image items 3 wide, caption items 4; an interaction compares"),
        (ones(1, 3, 0), ones(1, 3, 2), "image sets of 0 to 0 items in rows of 2; expected 1 item"),
        (ones(1, 3, 2), ones(1, 3, 3), "caption sets of 3 to 3 items in rows of 2"),
        (ones(0, 3, 2), ones(1, 3, 2), r"image sets of shape \(0, 2, 3\): there is nothing"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(images, captions, message):
    with pytest.raises(VSEError, match=message):
        MaxSim()(images, captions)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ScanTextToImage(norm="l1"), "norm=l1, expected one of clipped_l2, l2, clipped, none, softmax"),
        (lambda: ScanImageToText(aggregate="median"), "aggregate=median, expected one of lse, mean, max, sum"),
        (lambda: ScanTextToImage(softmax_scale=0.0), "softmax_scale=0.0, lse_scale=6.0, expected more than 0"),
        (lambda: MaxSim("up"), "direction=up, expected one of t2i, i2t, both"),
        (lambda: HardAssignment(temperature=0.0), "temperature=0.0, expected more than 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(build, message):
    with pytest.raises(VSEError, match=message):
        build()


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    limit=st.sampled_from([1, 40, 400, 2**20]),
    seed=st.integers(0, 9),
)
def test_blocks_hold_every_set_once_and_little_padding(lengths, limit, seed):
    rows = torch.tensor(lengths)
    values = torch.randn(len(rows), max(lengths), 2, generator=torch.Generator().manual_seed(seed))
    blocks = list(shared._blocks(Features(values, rows), limit, torch.float32))
    assert torch.cat([where for where, _ in blocks]).sort().values.tolist() == list(range(len(rows)))
    for where, block in blocks:
        longest, own = block.values.shape[1], rows[where]
        assert longest == own.max()
        assert len(where) == 1 or len(where) * longest <= limit
        assert len(where) * longest <= shared.PADDED * own.sum()
        torch.testing.assert_close(block.values[0, : own[0]], values[where[0], : own[0]])

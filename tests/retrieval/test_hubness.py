"""Corrections of hubness against plain loops and the released programs, whatever the blocks."""

import math

import numpy as np
import pytest
import torch

import vse_gpo.retrieval.hubness as hubness_module
from tests.golden import load
from vse_gpo.errors import VSEError
from vse_gpo.retrieval.hubness import (
    Bank,
    BankSearch,
    DualBankSinkhorn,
    QueryBankNormalization,
    Shifted,
    mean_bank,
)
from vse_gpo.retrieval.similarity import Matrix, Products, Similarity


def whole(similarity: Similarity) -> torch.Tensor:
    return similarity.exact_tile(*(slice(0, size) for size in similarity.shape))


def bank_of(golden: dict[str, torch.Tensor]) -> Bank:
    images, captions = golden["bank_images"], golden["bank_captions"]
    return Bank(
        image_caption=Products(images, captions),
        image_tested=Products(images, golden["captions"]),
        tested_caption=Products(golden["images"], captions),
        caption_to_image=np.arange(len(images)).repeat(5),
    )


def searched(golden: dict[str, torch.Tensor], direction: str) -> Similarity:
    similarity = Products(golden["images"], golden["captions"])
    return similarity if direction == "i2t" else similarity.transpose()


@pytest.fixture(params=[1, 50, 2**22])
def blocks(request, monkeypatch):
    monkeypatch.setattr(hubness_module, "NUMBERS_AT_ONCE", request.param)


@pytest.mark.parametrize("direction", ["i2t", "t2i"])
@pytest.mark.parametrize("k", [1, 3])
def test_query_bank_normalization_equals_the_released_program(direction, k, blocks):
    golden = load("hubness")
    plain = searched(golden, direction)
    found = whole(QueryBankNormalization(k=k)(plain, bank_of(golden).searched(direction)))
    expected = golden[f"qbnorm_{direction}_k{k}"]
    divided = (expected != whole(plain)).any(1)  # the released program leaves the other queries as they are
    expected = torch.where(divided[:, None], expected.log() / 20.0, expected)
    torch.testing.assert_close(found, expected, atol=1e-13, rtol=0)
    assert divided.sum() > 0


@pytest.mark.parametrize("direction", ["i2t", "t2i"])
def test_dual_bank_sinkhorn_ranks_as_the_released_program(direction, blocks):
    golden = load("hubness")
    found = whole(DualBankSinkhorn()(searched(golden, direction), bank_of(golden).searched(direction)))
    difference = found - golden[f"dbsn_{direction}"]  # the released program's factors start at another number
    torch.testing.assert_close(difference, difference[:1, :1].expand_as(difference), atol=1e-12, rtol=0)


def small(seed: int) -> tuple[list[list[float]], list[list[float]], list[list[float]]]:
    """Queries × gallery, bank's queries × gallery, and bank's queries × bank's items, of coarse numbers that tie."""
    draws = np.random.default_rng(seed)
    shapes = ((6, 5), (7, 5), (7, 4))
    return tuple(draws.integers(-4, 5, shape).astype(float).__truediv__(4).tolist() for shape in shapes)


def matrices(*tables: list[list[float]]) -> tuple[Similarity, BankSearch]:
    plain, queries, among = (Matrix(torch.tensor(table, dtype=torch.float64)) for table in tables)
    return plain, BankSearch(queries, among)


@pytest.mark.parametrize("seed", range(4))
def test_query_bank_normalization_equals_a_plain_loop(seed, blocks):
    plain, bank, among = small(seed)
    beta, k = 3.0, 2
    activated = {item for row in bank for item in range(5) if row[item] >= sorted(row)[-k]}
    expected = []
    for row in plain:
        on = any(row[item] == max(row) for item in activated)
        sums = [sum(math.exp(beta * other[item]) for other in bank) for item in range(5)]
        expected.append([s - math.log(z) / beta if on else s for s, z in zip(row, sums, strict=True)])
    similarity, search = matrices(plain, bank, among)
    found = whole(QueryBankNormalization(inverse_temperature=beta, k=k)(similarity, search))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_dual_bank_sinkhorn_equals_a_plain_loop(seed, blocks):
    plain, bank, among = small(seed)
    tau, iterations = 0.5, 3
    kernel = [[math.exp(s / tau) for s in [*ours, *theirs]] for ours, theirs in zip(bank, among, strict=True)]
    u = [1.0] * 9
    for _ in range(iterations):
        v = [1 / 7 / sum(k * u_ for k, u_ in zip(row, u, strict=True)) for row in kernel]
        u = [1 / 9 / sum(row[item] * v_ for row, v_ in zip(kernel, v, strict=True)) for item in range(9)]
    expected = [[s + tau * math.log(u[item]) for item, s in enumerate(row)] for row in plain]
    similarity, search = matrices(plain, bank, among)
    found = whole(DualBankSinkhorn(temperature=tau, iterations=iterations)(similarity, search))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0)


def test_a_temperature_that_underflows_stays_finite():
    similarity, search = matrices(*small(0))
    for correction in (QueryBankNormalization(inverse_temperature=1e5), DualBankSinkhorn(temperature=1e-5)):
        assert whole(correction(similarity, search)).isfinite().all()


def test_a_shifted_similarity_is_read_alike_in_every_way():
    draws = torch.Generator().manual_seed(0)
    plain = Products(*(torch.randn(size, 8, generator=draws) for size in (300, 200)))
    rows, columns = (7 * torch.randn(size, generator=draws, dtype=torch.float64) for size in (300, 200))
    shifted = Shifted(plain, rows, columns)
    exact = whole(shifted)
    torch.testing.assert_close(exact, whole(plain) + rows[:, None] * columns, atol=1e-12, rtol=0)
    everything = (slice(0, 300), slice(0, 200))
    memory = torch.empty(300, 200)
    for tile in (shifted.tile(*everything), shifted.tile(*everything, memory)):
        assert (tile.double() - exact).abs().max() < shifted.margins[0]
    some = torch.randint(200, (2, 50), generator=draws)
    torch.testing.assert_close(shifted.pairs(*some), exact[some[0], some[1]], atol=1e-12, rtol=0)
    torch.testing.assert_close(whole(shifted.select(*some)), exact[some[0]][:, some[1]], atol=1e-12, rtol=0)
    torch.testing.assert_close(whole(shifted.transpose()), exact.T, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QueryBankNormalization(k=0), "qbnorm with k=0, expected a number above 0"),
        (lambda: QueryBankNormalization(inverse_temperature=-1.0), "qbnorm with inverse_temperature=-1.0"),
        (lambda: DualBankSinkhorn(temperature=0.0), r"dbsn with temperature=0\.0, expected a number above 0"),
        (lambda: DualBankSinkhorn(iterations=0), "dbsn with iterations=0"),
    ],
)
def test_numbers_that_are_not_positive_are_refused(make, message):
    with pytest.raises(VSEError, match=message):
        make()


def test_an_ensemble_has_the_mean_of_its_banks_and_no_different_ones():
    golden = load("hubness")
    first = bank_of(golden)
    second = bank_of(golden | {"captions": golden["captions"].flip(1), "images": golden["images"].flip(1)})
    both = mean_bank([first, second])
    expected = (whole(first.image_tested) + whole(second.image_tested)) / 2
    torch.testing.assert_close(whole(both.image_tested), expected)
    assert str(both) == "bank of 20 images and 100 captions"
    fewer = bank_of(golden | {"bank_images": golden["bank_images"][:10], "bank_captions": golden["bank_captions"][:50]})
    with pytest.raises(VSEError, match="different banks: bank of 20 images and 100 captions, bank of 10"):
        mean_bank([first, fewer])

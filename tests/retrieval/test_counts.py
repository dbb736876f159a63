"""Counts against a plain loop, whatever the tiles, the groups and the share of ties."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vse_gpo.retrieval.counts as counts_module
from vse_gpo.retrieval.counts import Asked, Pairs, count_at_least, count_at_least_among_themselves
from vse_gpo.retrieval.similarity import Products

WIDTH = 3


def small_integers(rows: int, draws: torch.Generator) -> torch.Tensor:
    """Their products are exact, and ties are many."""
    return torch.randint(-2, 3, (rows, WIDTH), generator=draws).double()


def asked_of(values: torch.Tensor, draws: torch.Generator) -> Asked:
    """One threshold that the values reach and one that counts for nothing; a few pairs that are left out."""
    thresholds = torch.stack([values[:, 0], torch.full((len(values),), torch.inf)], dim=1)
    left_out = (torch.rand(values.shape, generator=draws) < 0.2).nonzero()
    return Asked(thresholds, Pairs(*left_out.T))


def plain_counts(values: torch.Tensor, asked: Asked, bounds: list[int]) -> list[list[list[int]]]:
    left_out = set(zip(*(side.tolist() for side in asked.positives), strict=True))
    return [
        [
            [
                sum(float(row[item]) >= threshold for item in range(first, last) if (query, item) not in left_out)
                for first, last in pairwise(bounds)
            ]
            for threshold in asked.thresholds[query].tolist()
        ]
        for query, row in enumerate(values)
    ]


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**16), st.sampled_from([1, 2, 3, 500]))
def test_counts_equal_a_plain_loop_in_every_group(rows, columns, seed, tile):
    draws = torch.Generator().manual_seed(seed)
    left, right = small_integers(rows, draws), small_integers(columns, draws)
    values = left @ right.T
    of_rows, of_columns = asked_of(values, draws), asked_of(values.T, draws)
    row_bounds, column_bounds = [0, 1, rows], [0, columns // 2, columns]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts_module, "TILE", (tile, 2 * tile))
        by_row, by_column = count_at_least(Products(left, right), of_rows, of_columns, row_bounds, column_bounds)
    assert by_row.tolist() == plain_counts(values, of_rows, column_bounds)
    assert by_column.tolist() == plain_counts(values.T, of_columns, row_bounds)


@given(st.integers(2, 9), st.integers(0, 2**16), st.sampled_from([1, 2, 500]))
def test_half_of_a_symmetric_matrix_gives_all_counts(items, seed, tile):
    draws = torch.Generator().manual_seed(seed)
    rows = small_integers(items, draws)
    values = rows @ rows.T
    asked = asked_of(values, draws)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counts_module, "TILE", (tile, 2 * tile))
        counts = count_at_least_among_themselves(Products(rows, rows), asked)
    assert counts[:, :, None].tolist() == plain_counts(values, asked, [0, items])

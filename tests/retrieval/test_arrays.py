"""Embeddings of any program become unit vectors, whatever their precision and scale, or are refused."""

import numpy as np
import pytest
import torch

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.arrays import unit_embeddings, unit_rows

UNIT = np.array([[0.6, 0.8, 0.0], [0.0, 0.6, 0.8], [1.0, 0.0, 0.0]])


def normalized(values: object) -> torch.Tensor:
    """The same values as image embeddings, in unit length."""
    return unit_embeddings(values, UNIT)[0]


@pytest.mark.parametrize("scale", [1e-160, 1e-44, 1e-30, 1.0, 3.7, 1e38, 1e300])
def test_no_norm_overflows_or_vanishes(scale):
    for values in (UNIT * scale, torch.from_numpy(UNIT * scale)):
        torch.testing.assert_close(normalized(values), torch.from_numpy(UNIT), atol=1e-15, rtol=0)
    if scale <= 1e38 and scale >= 1e-30:  # what float32 can hold with all its digits
        single = normalized((UNIT * scale).astype(np.float32))
        torch.testing.assert_close(single, torch.from_numpy(UNIT).float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [">f4", ">f8", "<f2", ">f2", "longdouble", "f4", "f8"])
def test_any_precision_and_byte_order_is_read(kind):
    found = normalized((3 * UNIT).astype(np.dtype(kind)))
    assert found.dtype == (torch.float64 if np.dtype(kind).itemsize >= 8 else torch.float32)
    torch.testing.assert_close(found.double(), torch.from_numpy(UNIT), atol=1e-3 if "f2" in kind else 1e-6, rtol=0)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_read(kind):
    found = normalized(torch.from_numpy(3 * UNIT).to(kind))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(found.double(), torch.from_numpy(UNIT), atol=1e-2, rtol=0)


def test_lists_views_and_read_only_arrays_are_read():
    backwards = UNIT[::-1]
    backwards.flags.writeable = False
    assert normalized(UNIT.tolist()).tolist() == UNIT.tolist()
    assert normalized(backwards).tolist() == UNIT[::-1].tolist()


def test_unit_vectors_stay_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    for kind in (torch.float32, torch.float64):
        rows = torch.nn.functional.normalize(torch.randn(5000, 40, generator=generator, dtype=kind), dim=1)
        assert unit_rows(rows, "embedding") is rows
        longer = rows.clone()
        longer[4321] *= 2
        found = unit_rows(longer, "embedding")
        assert torch.equal(found[:4321], rows[:4321])
        torch.testing.assert_close(found[4321], rows[4321])
        assert torch.equal(longer[4321], rows[4321] * 2)  # what was handed in is left alone


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (np.array([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]]), "image embedding 1 is zero, as are 1 more; expected a direct"),
        (np.array([[1.0, 0, 0], [0, np.nan, 0]]), "image embedding 1 holds NaN or infinity"),
        (np.array([[1.0, 0, 0], [0, 0, -np.inf]]), "image embedding 1 holds NaN or infinity"),
        (np.zeros((3, 0)), r"image embeddings \(3, 0\).*none of them 0"),
        (np.zeros((0, 3)), r"image embeddings \(0, 3\).*none of them 0"),
        (np.ones(3), r"image embeddings \(3,\) and caption embeddings \(3, 3\), expected \(images, E\)"),
        (np.ones((3, 3), dtype=int), "image embeddings of int64, expected floats"),
        (torch.ones(3, 3, dtype=torch.bool), "image embeddings of torch.bool, expected floats"),
        (np.ones((3, 3), dtype=complex), "image embeddings of complex128, expected floats"),
        ([[1.0, 0.0], [1.0]], "image embeddings: lists of different lengths"),
        ([["a", "b"]], "image embeddings of <U1, expected floats"),
    ],
)
def test_rows_that_have_no_direction_and_other_kinds_are_refused(changed, message):
    with pytest.raises(VSEError, match=message) as error:
        normalized(changed)
    assert "\n" not in str(error.value)


def test_a_long_double_beyond_float64_is_refused():
    if np.finfo(np.longdouble).max <= np.finfo(np.float64).max:
        pytest.skip("a long double is a float64 here")
    with pytest.raises(VSEError, match="image embedding 0 holds NaN or infinity"):
        normalized(np.full((1, 3), np.finfo(np.longdouble).max))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.eye(3).to_sparse(), "in a sparse tensor or one without values"),
        (torch.empty(2, 3, device="meta"), "in a sparse tensor or one without values"),
        (np.ma.masked_array(UNIT, mask=UNIT > 0.7), "with masked values"),
    ],
)
def test_values_that_are_not_there_are_refused(values, message):
    with pytest.raises(VSEError, match=f"image embeddings {message}"):
        normalized(values)

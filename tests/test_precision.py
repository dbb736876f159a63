"""How float32 products are rounded: on a CPU the settings are seen, not their effect."""

import pytest
import torch
from pytorch_lightning import Trainer

from tests.helpers.noted_products import NotedProducts
from vse_gpo.precision import float32_products, full_precision, full_product
from vse_gpo.retrieval.similarity import Products


def settings() -> tuple[str, bool, bool, bool]:
    """In both of torch's older interfaces, which raise errors where they contradict each other."""
    backends = torch.backends
    return (
        *(torch.get_float32_matmul_precision(), backends.cuda.matmul.allow_tf32),
        *(backends.cudnn.allow_tf32, backends.cudnn.benchmark),
    )


@pytest.mark.parametrize(
    ("precision", "matmul", "cudnn"), [("highest", False, False), ("high", True, True), ("medium", True, True)]
)
@pytest.mark.parametrize("benchmark", [False, True])
def test_products_follow_one_setting_and_what_was_set_before_comes_back(precision, matmul, cudnn, benchmark):
    before = settings()
    with float32_products(precision, cudnn_benchmark=benchmark):
        assert settings() == (precision, matmul, cudnn, benchmark)
        Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
        with torch.backends.cudnn.flags():
            pass
        assert settings() == (precision, matmul, cudnn, benchmark)
    assert settings() == before


@pytest.mark.parametrize("allowed", ["high", "medium"])
def test_full_products_are_not_rounded_either_way(allowed):
    rows, columns = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    upstream = torch.randn(3, 5)
    with float32_products(allowed, cudnn_benchmark=False), NotedProducts() as noted:
        products = full_product(rows, columns)
        gradients = torch.autograd.grad(products, (rows, columns), upstream)
    assert noted.precisions == 3 * ["highest"]
    torch.testing.assert_close(products, rows @ columns.T)
    torch.testing.assert_close(gradients, torch.autograd.grad(rows @ columns.T, (rows, columns), upstream))


def test_full_products_are_not_rounded_in_mixed_precision_either_way():
    rows, columns = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    exact = full_product(rows, columns)
    expected = torch.autograd.grad(exact.square().sum(), (rows, columns))
    with torch.autocast("cpu", torch.bfloat16):
        products = full_product(rows, columns)
        gradients = torch.autograd.grad(products.square().sum(), (rows, columns))
    assert products.dtype == torch.float32
    torch.testing.assert_close(products, exact, rtol=0, atol=0)
    torch.testing.assert_close(gradients, expected)


def test_a_tile_of_similarities_is_not_rounded():
    products = Products(torch.randn(3, 4), torch.randn(5, 4))
    with float32_products("medium", cudnn_benchmark=False), NotedProducts() as noted:
        products.tile(slice(0, 3), slice(0, 5))
    assert noted.precisions == ["highest"]


def test_full_precision_ends_where_it_began():
    with float32_products("medium", cudnn_benchmark=False):
        with full_precision(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"

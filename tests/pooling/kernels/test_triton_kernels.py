import os
import subprocess
import sys
from itertools import product

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed: torch brings it with CUDA on Linux")

from tests.helpers.compiled import check_usage, usage
from tests.helpers.kernel_cases import CASES, check, check_nan, check_trial, check_trial_of_each_tile
from vse_gpo.pooling.kernels import triton_kernels
from vse_gpo.pooling.kernels.sorting import sort_descending, weigh_by_rank
from vse_gpo.pooling.kernels.triton_kernels import Tile, gradient_kernel, tile, weigh_kernel

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
KINDS = dict.fromkeys(("values", "weights", "pooled", "arriving", "of_values", "of_weights"), "*fp32")
KINDS |= {"lengths": "*i64"}


def test_interpreted_kernels_equal_the_stable_sort_with_all_gradients() -> None:
    """In a process of its own: Triton must know before it is imported that it interprets."""
    program = [sys.executable, "-m", "tests.helpers.kernel_cases"]
    done = subprocess.run(
        program, check=False, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"{len(CASES)} cases"), done.stderr


@pytest.mark.timeout(1500)  # a minute and more for 1,024 items
@pytest.mark.parametrize(
    ("capability", "items"),
    [
        *((80, 8), (89, 36), (90, 64), (120, 8)),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in product((80, 89, 90, 120), (8, 36, 64, 256, 1024))),
    ],
)
def test_compiled_kernels_fit_a_gpu_without_spilling_a_register(capability, items) -> None:
    """``pytest -m slow -rP`` on this file shows the whole table."""
    size = tile(items, 1024)
    for kernel, constants in ((weigh_kernel, {"KEEP_ORDER": True}), (gradient_kernel, {})):
        used = usage(
            kernel,
            constants=constants | {"channel_stride": 1, "ITEMS": size.items, "CHANNELS": size.channels},
            kinds=KINDS | {"order": "*u8" if items <= 256 else "*i16"},
            capability=capability,
            warps=size.warps,
            options=triton_kernels.FUSION,
        )
        sys.stdout.write(f"sm_{capability} {items:5} items {kernel.__name__:16} {used}\n")
        check_usage(used)


def test_where_kernels_cannot_run_a_warning_says_why() -> None:
    """Here they cannot: these are tensors of a CPU, and Triton does not interpret."""
    triton_kernels.run_on.cache_clear()
    size = tile(36, 1024)
    with pytest.warns(
        UserWarning, match=r"for sets of up to 64 items on cpu do not run \(.+\); pooling sorts such sets"
    ):
        assert not triton_kernels.run_on(torch.device("cpu"), size)
    assert not triton_kernels.run_on(torch.device("cpu"), size)  # without another warning
    triton_kernels.run_on.cache_clear()


@pytest.mark.parametrize(
    ("items", "dim", "expected"),
    [
        (1, 1024, Tile(1, 32, 1)),
        (36, 1024, Tile(64, 16, 1)),
        (36, 5, Tile(64, 8, 1)),
        (256, 1024, Tile(256, 8, 2)),
        (1000, 1024, Tile(1024, 8, 8)),
    ],
)
def test_a_tile_holds_the_whole_set(items, dim, expected) -> None:
    assert tile(items, dim) == expected


@on_a_gpu
@pytest.mark.parametrize("name", CASES)
def test_kernels_equal_the_stable_sort_on_a_gpu(name) -> None:
    check(name, "cuda")


@on_a_gpu
def test_weights_of_more_ranks_than_items_on_a_gpu() -> None:
    check("lengths_from_1_to_all", "cuda", spare=3)


@on_a_gpu
def test_a_tile_that_cannot_run_leaves_the_others_on_a_gpu() -> None:
    check_trial_of_each_tile("cuda")


@on_a_gpu
def test_nan_comes_first_on_a_gpu() -> None:
    check_nan("cuda")


@on_a_gpu
def test_kernels_run_on_a_gpu_whoever_asks_first() -> None:
    check_trial("cuda")


@on_a_gpu
def test_kernels_repeat_bit_for_bit_on_a_gpu() -> None:
    values = torch.randn(8, 36, 1024, device="cuda", requires_grad=True)
    weights = torch.rand(8, 36, device="cuda", requires_grad=True)
    lengths = torch.randint(1, 37, (8,), device="cuda")
    first, second = (
        torch.autograd.grad(weigh_by_rank(values, lengths, weights).sum(), (values, weights)) for _ in "ab"
    )
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@on_a_gpu
@pytest.mark.parametrize("items", [36, triton_kernels.LARGEST_SET, triton_kernels.LARGEST_SET + 1])
def test_the_largest_sets_are_pooled_on_a_gpu(items) -> None:
    values = torch.randn(2, items, 48, device="cuda")
    weights, lengths = torch.rand(2, items, device="cuda"), torch.tensor([items, 7], device="cuda")
    expected = (sort_descending(values, lengths) @ weights[:, :, None]).squeeze(-1)
    torch.testing.assert_close(weigh_by_rank(values, lengths, weights), expected)

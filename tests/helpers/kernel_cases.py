"""What the Triton kernels must equal; as a program with TRITON_INTERPRET=1 it checks them on a CPU, without a GPU."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vse_gpo.pooling.kernels import triton_kernels

INFINITE, NAN = float("inf"), float("nan")
SPECIAL = [0.0, -0.0, INFINITE, -INFINITE, 1.0, -1.0, 1e-40, -1e-40]
CASES = {
    "ties": lambda: (torch.randn(2, 6, 3).round(), [6, 4]),
    "one_item": lambda: (torch.randn(2, 1, 2), [1, 1]),
    "lengths_from_1_to_all": lambda: (torch.randn(3, 9, 2), [1, 9, 5]),
    "special_values": lambda: (torch.tensor(SPECIAL)[torch.randperm(8)][None, :, None].clone(), [8]),
    "several_blocks_of_channels": lambda: (torch.randn(1, 3, 40), [3]),
    "two_bytes_an_item": lambda: (torch.randn(1, 260, 1).round(decimals=1), [258]),
    "lengths_with_gaps": lambda: (torch.randn(3, 9, 2), torch.tensor([1, 9, 9, 9, 5])[::2]),
    "any_memory_layout": lambda: (torch.randn(2, 3, 5).transpose(1, 2), [5, 2]),
    "part_of_a_tensor": lambda: (torch.randn(2, 9, 4)[:, :5, 1:], [5, 3]),
}


def plain(values: Tensor, lengths: Tensor, weights: Tensor) -> Tensor:
    """Set by set, by torch's own stable sort."""
    return torch.stack(
        [
            row[:length].sort(dim=0, descending=True, stable=True).values.T @ weight[:length]
            for row, length, weight in zip(values, lengths.tolist(), weights, strict=True)
        ]
    )


def check(name: str, device: str, spare: int = 0) -> None:
    """Fail if the kernels' values or gradients differ from the plain ones.

    ``spare`` ranks have weights and no items.
    """
    torch.manual_seed(0)
    values, sizes = CASES[name]()
    lengths = torch.as_tensor(sizes)
    weights = torch.rand(len(values), values.shape[1] + spare)  # past a length weights count for nothing
    upstream = torch.randn(len(values), values.shape[2])
    results = []
    for pool in (triton_kernels.fused_weigh_by_rank, plain):
        inputs = values.to(device).requires_grad_(), weights.to(device).requires_grad_()
        pooled = pool(inputs[0], lengths.to(device), inputs[1])
        results.append((pooled, *torch.autograd.grad(pooled, inputs, upstream.to(device))))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, equal_nan=True)
    with torch.no_grad():
        without = triton_kernels.fused_weigh_by_rank(values.to(device), lengths.to(device), weights.to(device))
    torch.testing.assert_close(without, results[0][0], rtol=0, atol=0, equal_nan=True)


def check_nan(device: str) -> None:
    """NaN of either sign comes first; its own channel alone is spoiled."""
    values = torch.tensor([[[1.0, 1.0], [NAN, 2.0], [INFINITE, 3.0], [-NAN, 0.5]]], device=device).requires_grad_()
    weights = torch.tensor([[0.0, 0.0, 3.0, 4.0]], device=device)
    pooled = triton_kernels.fused_weigh_by_rank(values, torch.tensor([4], device=device), weights)
    assert pooled.isnan().tolist() == [[True, False]]
    (gradient,) = torch.autograd.grad(pooled, values, torch.ones_like(pooled))
    assert gradient[0, :, 0].tolist() == [4.0, 0.0, 3.0, 0.0]  # weights of the last rank, of both NaN, of the third


def check_trial(device: str) -> None:
    """The kernels run whoever asks first: an evaluation, or a forward pass that is checkpointed."""

    def pool(values: Tensor) -> Tensor:
        triton_kernels.run_on.cache_clear()
        assert triton_kernels.run_on(torch.device(device), triton_kernels.tile(3, 4))
        lengths = torch.tensor([3, 1], device=device)
        return triton_kernels.fused_weigh_by_rank(values, lengths, torch.ones(2, 3, device=device))

    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            pool(torch.zeros(2, 3, 4, device=device))
    values = torch.randn(2, 3, 4, device=device, requires_grad=True)
    checkpoint(pool, values, use_reentrant=False).sum().backward()
    assert values.grad is not None
    assert values.grad[:, :, 0].tolist() == [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]


def check_trial_of_each_tile(device: str) -> None:
    """A tile that cannot run leaves the others as they are, whichever is smaller."""
    small, large = triton_kernels.tile(3, 2), triton_kernels.tile(9, 2)
    for failing, running in ((large, small), (small, large)):
        triton_kernels.run_on.cache_clear()
        with without_tile(failing), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert triton_kernels.run_on(torch.device(device), running)
            assert not told
            assert not triton_kernels.run_on(torch.device(device), failing)
        assert f"of up to {failing.items} items on {device} do not run (RuntimeError: out of" in str(told[0].message)
    triton_kernels.run_on.cache_clear()


@contextmanager
def without_tile(failing: triton_kernels.Tile) -> Iterator[None]:
    """The kernels on a device that cannot hold this tile."""
    kernel = triton_kernels.weigh_kernel

    class OnTheDevice:
        def __getitem__(self, grid: tuple[int, int]) -> Callable[..., None]:
            def launch(*arguments: object, **constants: object) -> None:
                if constants["ITEMS"] == failing.items:
                    raise RuntimeError("out of resource: shared memory")
                kernel[grid](*arguments, **constants)

            return launch

    triton_kernels.weigh_kernel = OnTheDevice()
    try:
        yield
    finally:
        triton_kernels.weigh_kernel = kernel


if __name__ == "__main__":
    for case in CASES:
        check(case, "cpu")
    check("lengths_from_1_to_all", "cpu", spare=3)
    check_nan("cpu")
    check_trial("cpu")
    check_trial_of_each_tile("cpu")
    sys.stdout.write(f"{len(CASES)} cases")

import os
import subprocess
import sys
from collections import Counter
from itertools import product

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("triton", reason="Triton is not installed: torch brings it with CUDA on Linux")

from tests.helpers.compiled import check_usage, usage
from tests.helpers.launches import Launches
from tests.helpers.recurrence_cases import CASES, check, check_trial, states_and_gradients
from vse_gpo.pooling.kernels import triton_recurrence
from vse_gpo.pooling.kernels.recurrence import fused_steps, run_both_ways
from vse_gpo.pooling.kernels.triton_recurrence import TritonSteps, advance_kernel, retreat_kernel, warps

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
INTEGERS = ("items", "lanes", "width")


def test_interpreted_kernels_equal_float64_with_all_gradients() -> None:
    """In a process of its own: Triton must know before it is imported that it interprets."""
    program = [sys.executable, "-m", "tests.helpers.recurrence_cases"]
    done = subprocess.run(
        program, check=False, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, f"{len(CASES)} cases"), done.stderr


@pytest.mark.parametrize(
    ("capability", "width"),
    [
        *((80, 64), (90, 32), (120, 64)),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in product((80, 89, 90, 120), (4, 32, 64))),
    ],
)
def test_compiled_kernels_hold_their_weights_in_registers(capability, width) -> None:
    for kernel in (advance_kernel, retreat_kernel):
        kinds = dict.fromkeys(kernel.arg_names, "*fp32") | dict.fromkeys(INTEGERS, "i32") | {"starts": "*i32"}
        used = usage(
            kernel, constants={"WIDTH": width}, kinds=kinds, capability=capability, warps=warps(width), options={}
        )
        sys.stdout.write(f"sm_{capability} width {width:3} {kernel.__name__:16} {used}\n")
        check_usage(used)


class Started:
    """In place of a kernel: notes that it was started."""

    def __init__(self, calls: Counter[str], name: str) -> None:
        self.calls = calls
        self.name = name

    def __getitem__(self, grid):
        def launch(*arguments: object, **constants: object) -> None:
            self.calls[self.name] += 1

        return launch


def launches(monkeypatch, items: int) -> Counter[str]:
    """Of the coefficients' GRU, forward and backward, for 20 sizes up to this one."""
    counted = Launches()
    for name in ("advance_kernel", "retreat_kernel"):
        monkeypatch.setattr(triton_recurrence, name, Started(counted.calls, name))
    gru = nn.GRU(32, 32, bidirectional=True)
    with counted:
        states_and_gradients(TritonSteps(), gru, torch.randn(items, 32), torch.arange(items, items - 20, -1))
    return counted.calls


def test_a_set_of_any_size_costs_one_kernel_each_way(monkeypatch) -> None:
    small, large = launches(monkeypatch, 36), launches(monkeypatch, 256)
    assert small == large
    assert (large["advance_kernel"], large["retreat_kernel"]) == (1, 1)
    assert large.total() <= 100


def test_where_kernels_cannot_run_a_warning_says_why() -> None:
    fused_steps.cache_clear()
    with pytest.warns(
        UserWarning, match=r"for GPO's coefficients on cpu do not run \(.+\); torch's GRU generates them"
    ):
        assert fused_steps(torch.device("cpu"), 32) is None
    assert fused_steps(torch.device("cpu"), 32) is None  # without another warning
    fused_steps.cache_clear()


@on_a_gpu
@pytest.mark.parametrize("name", CASES)
def test_kernels_equal_float64_on_a_gpu(name) -> None:
    check(name, "cuda")


@on_a_gpu
def test_kernels_run_on_a_gpu() -> None:
    check_trial("cuda")


@on_a_gpu
@pytest.mark.parametrize("sizes", [[1], [36], [256, 7, 100]])
def test_a_gpus_states_equal_those_of_the_cpu(sizes) -> None:
    gru, positions, lengths = (
        nn.GRU(32, 32, batch_first=True, bidirectional=True),
        torch.randn(256, 32),
        torch.tensor(sizes),
    )

    def states(device: str) -> Tensor:
        return run_both_ways(gru.to(device), positions[: max(sizes)].to(device), lengths).cpu().double()

    torch.testing.assert_close(states("cuda"), states("cpu"), rtol=1e-5, atol=1e-5)

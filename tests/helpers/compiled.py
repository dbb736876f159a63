"""What Triton kernels take of a GPU, told by the compiler: no GPU is needed."""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

SHARED = 99 * 1024  # bytes of shared memory that a program can have on every GPU from sm_80 on
REGISTERS = 65_536  # of a multiprocessor


class Usage(NamedTuple):
    """What one program takes."""

    registers: int  # per thread
    spilled: int  # bytes per thread that do not fit into the registers
    shared: int  # bytes
    threads: int


def usage(
    kernel: Any,
    *,
    constants: Mapping[str, Any],
    kinds: Mapping[str, str],
    capability: int,
    warps: int,
    options: Mapping[str, Any],
) -> Usage:
    """Compile a kernel for a GPU that need not be there.

    Args:
        kernel: a function of ``triton.jit``.
        constants: its constants by name.
        kinds: types of its other arguments by name; those that are missing are 32-bit integers.
        capability: 90 for sm_90.
        warps: warps per program.
        options: further options of the compiler.
    """
    signature = {name: "constexpr" if name in constants else kinds.get(name, "i32") for name in kernel.arg_names}
    compiled = triton.compile(
        ASTSource(fn=kernel, signature=signature, constexprs=dict(constants)),
        target=GPUTarget("cuda", capability, 32),
        options={**options, "num_warps": warps},
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(compiled.asm["cubin"])
        program = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", path]
        told = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    found = {name: int(re.search(rf"{name}:(\d+)", told)[1]) for name in ("REG", "STACK", "LOCAL")}
    return Usage(found["REG"], found["STACK"] + found["LOCAL"], compiled.metadata.shared, 32 * warps)


def check_usage(used: Usage) -> None:
    """Fail if a GPU from sm_80 on could not run the program, or would run it from memory instead of registers."""
    assert used.spilled == 0
    assert used.shared <= SHARED
    assert used.registers * used.threads <= REGISTERS

import numpy as np
import pytest
import torch

from vse_gpo.errors import VSEError
from vse_gpo.training.out_of_memory import is_out_of_memory, memory_explained

OF_CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.20 GiB is free."
    " Process 1 has 77.90 GiB memory in use. Of the allocated memory 70.00 GiB is allocated by PyTorch, and 6.00 GiB "
    "is reserved by PyTorch but unallocated."
)


def test_memory_that_no_computer_has_is_recognised():
    for ask in (lambda: torch.empty(2**50), lambda: np.empty(2**50), lambda: bytearray(2**60)):
        with pytest.raises((RuntimeError, MemoryError)) as error:
            ask()
        assert is_out_of_memory(error.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError(OF_CUDA),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
    ],
)
def test_missing_memory_is_one_line_that_says_what_to_set(error):
    with pytest.raises(VSEError, match=r"^out of memory \([^\n]+\); set [^\n]+$") as told, memory_explained():
        raise error
    for remedy in ("micro_batch=auto", "trainer.precision=bf16-mixed", "backbone.checkpointing=true", "more devices"):
        assert remedy in str(told.value)
    assert len(str(told.value)) < 500


def test_how_much_was_asked_for_is_told():
    with pytest.raises(VSEError, match=r"Tried to allocate 2\.00 GiB"), memory_explained():
        raise torch.cuda.OutOfMemoryError(OF_CUDA)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ZeroDivisionError()])
def test_other_errors_stay_as_they_are(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as raised, memory_explained():
        raise error
    assert raised.value is error

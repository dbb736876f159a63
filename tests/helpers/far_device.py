"""A device that is not there: its tensors compute on the CPU, and every wait of the CPU for it is noted.

Tensors on it report the device ``meta``, which no other test trains on, but have values. The CPU waits for a GPU to
read a value (``item``, ``tolist``, ``equal``, a condition), for copies to the CPU, for copies from it that do not say
``non_blocking``, and for operations whose result's shape depends on values. Tensors of two devices meet as on a GPU:
with an error.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

FAR = torch.device("meta")

AUTOCAST, GENERATOR = torch.autocast, torch.Generator
aten = torch.ops.aten
READS = {aten._local_scalar_dense, aten.equal, aten.is_nonzero}  # give values of the host
SHAPES_BY_VALUE = {
    *(aten.nonzero, aten.masked_select, aten.bincount, aten._unique2, aten.unique_dim, aten.unique_consecutive),
    aten.repeat_interleave,
}
INDEXED = {aten.index, aten._unsafe_index, aten.index_put, aten.index_put_, aten._index_put_impl_}
TAKE_LENGTHS = {
    aten._pack_padded_sequence,
    aten._pad_packed_sequence,
    aten._pack_padded_sequence_backward,
}  # on the CPU


class FarTensor(Tensor):
    """A tensor that claims to be on the far device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "FarTensor":
        far = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=FAR,
        )
        far.held = held
        return far

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __format__(self, form: str) -> str:
        return format(self.item(), form)

    def __repr__(self) -> str:  # the other one reads values
        return f"FarTensor{tuple(self.shape)}"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of waits_noted()")


class _FarDevice(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        packet, tensors = func.overloadpacket, [leaf for leaf in tree_leaves((args, kwargs)) if _is(leaf, Tensor)]
        far = any(_is(tensor, FarTensor) for tensor in tensors)
        if (named := kwargs.get("device")) is not None:
            far_result = torch.device(named) == FAR
            kwargs["device"] = torch.device("cpu")
        else:
            far_result = far
        self._note_waits(packet, args, kwargs, tensors, far, far_result)
        here, of_names = tree_map_only(FarTensor, lambda tensor: tensor.held, (args, kwargs))
        result = func(*here, **of_names)
        if not far_result or packet in READS:
            return result
        if packet in TAKE_LENGTHS and isinstance(result, tuple):
            return FarTensor(result[0]), *result[1:]
        written = [
            args[place] if place < len(args) else kwargs.get(argument.name)
            for place, argument in enumerate(func._schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        if written and len(func._schema.returns) <= 1:
            return written[0] if func._schema.returns else None
        return tree_map_only(Tensor, FarTensor, result)

    def _note_waits(
        self, packet: Any, args: Any, kwargs: Any, tensors: list[Tensor], far: bool, far_result: bool
    ) -> None:
        if packet in (aten._to_copy, aten.copy_):
            to, source = (args[0], args[1]) if packet is aten.copy_ else (None, args[0])
            there = far_result if to is None else _is(to, FarTensor)
            free = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
            if _is(source, FarTensor) and not there:
                self._note("a copy to the CPU")
            elif there and not _is(source, FarTensor) and not free:
                self._note("a copy to the device that is not non_blocking")
        elif far and packet in READS | SHAPES_BY_VALUE:
            self._note(str(packet))
        elif far and packet in INDEXED:
            for index in args[1]:
                if index is not None and index.dtype in (torch.bool, torch.uint8):
                    self._note("an index by a mask")
                if index is not None and not _is(index, FarTensor):
                    self._note("an index on the CPU")
        elif far and packet not in TAKE_LENGTHS and any(t.ndim > 0 and not _is(t, FarTensor) for t in tensors):
            raise RuntimeError(f"{packet}: expected all tensors to be on the same device")

    def _note(self, what: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if __file__ != frame.filename]
        inner = [frame for frame in frames if "/torch/_" not in frame.filename]  # around every operation of a mode
        own = [frame for frame in inner if "/site-packages/" not in frame.filename] or inner
        last = "" if own[-1] is inner[-1] else f" by {inner[-1].filename}:{inner[-1].lineno}"
        self.waits.append(f"{what}: {own[-1].filename}:{own[-1].lineno} {own[-1].line}{last}")


class _NumbersOfTheHost(TorchFunctionMode):
    """Makes tensors of numbers on the CPU and copies them: on a meta tensor torch would only note their shape."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and torch.device(kwargs.get("device") or "cpu") == FAR:
            del kwargs["device"]
            return func(*args, **kwargs).to(FAR)
        if func is Tensor.new_tensor and args[0].device == FAR:
            return torch.tensor(*args[1:], **({"dtype": args[0].dtype} | kwargs)).to(FAR)
        return func(*args, **kwargs)


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind)


def _autocast(kind: str, *settings: Any, **named: Any) -> torch.autocast:
    """torch has no mixed precision for meta tensors."""
    return AUTOCAST("cpu" if kind == FAR.type else kind, *settings, **named)


def _generator(device: Any = "cpu") -> torch.Generator:
    """torch has no random numbers for meta tensors."""
    return GENERATOR("cpu" if torch.device(device) == FAR else device)


@contextmanager
def waits_noted() -> Iterator[list[str]]:
    """Every wait for the far device inside, with the line that waits. Only inside can its tensors be used."""
    device, lacking = _FarDevice(), {"autocast": _autocast, "Generator": _generator}
    with device, _NumbersOfTheHost(), patch.multiple(torch, **lacking):
        yield device.waits


class _Accelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        pass


class _Steps(pl.Callback):
    """Sorts the waits by step: each lasts from its start to that of the next, with the loading of the next batch."""

    def __init__(self, waits: list[str]) -> None:
        self.waits = waits
        self.by_step: list[list[str]] = []

    def on_train_batch_start(self, *step: Any) -> None:
        self.by_step.append(self.waits.copy())
        self.waits.clear()


def waits_of_steps(
    make_trainer: Callable[..., pl.Trainer],
    module: pl.LightningModule,
    data: Any,
    callbacks: Sequence[pl.Callback] = (),
) -> list[list[str]]:
    """The waits of each step of a training on the far device; those before the first step and after the last are not.

    Args:
        make_trainer: takes Lightning's settings.
        module, data: what is trained.
        callbacks: of the training.
    """
    with waits_noted() as waits:
        steps = _Steps(waits)
        strategy = SingleDeviceStrategy(device=FAR, accelerator=_Accelerator())
        trainer = make_trainer(accelerator="auto", strategy=strategy, callbacks=[steps, *callbacks])
        trainer.fit(module, datamodule=data)
    return steps.by_step[1:]

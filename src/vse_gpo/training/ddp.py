"""Training on several processes, each with its share of a batch, for a model whose phases train different parts."""

from typing import Any

from pytorch_lightning.overrides.distributed import prepare_for_backward
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from vse_gpo.training.phases import Phase


class PhasedDDP(DDPStrategy):
    """Lightning's DDP, which looks for unused parameters once in each phase instead of in every step.

    To look for them, DDP walks through the graph of a step, and it waits for the device. What a phase freezes takes no
    part in the exchange of gradients. The first step of a phase tells whether it leaves out more, as a phase leaves out
    the temperature of a loss that it does not use: only then DDP looks for it in each step of the phase.

    Args:
        gradient_as_bucket_view: keep gradients only in the memory that they are exchanged from.
        bf16_gradients: exchange gradients in bfloat16: half the traffic, sums of 8 bits. The weights stay in float32.
    """

    def __init__(self, *, gradient_as_bucket_view: bool = True, bf16_gradients: bool = False) -> None:
        super().__init__(gradient_as_bucket_view=gradient_as_bucket_view)
        self.bf16_gradients = bf16_gradients
        self._phase: Phase | None = None
        self._looked = False  # for unused parameters, in this phase

    def configure_ddp(self) -> None:
        self._wrap(init_sync=True)

    def on_train_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Follow the module into a phase; it has frozen by now what the phase freezes."""
        module: Any = self.lightning_module
        if module.phase != self._phase:
            self._phase, self._looked = module.phase, False
            self._wrap()

    def pre_backward(self, closure_loss: Tensor) -> None:
        """Look for unused parameters in the first backward pass of a phase after which gradients are exchanged."""
        wrapped: Any = self.model
        if self._looked or not wrapped.require_backward_grad_sync:
            return
        self._looked = True
        trained = {parameter for parameter in wrapped.parameters() if parameter.requires_grad}
        if trained - used_parameters(closure_loss):
            prepare_for_backward(self._wrap(find_unused_parameters=True), closure_loss)

    def _wrap(self, *, find_unused_parameters: bool = False, init_sync: bool = False) -> DistributedDataParallel:
        """Wrap what trains of the module now; not in a stream of its own, as weights may still be written."""
        module: Any = self.lightning_module
        self.model = module  # frees what was wrapped before
        wrapped = DistributedDataParallel(
            module,
            device_ids=self.determine_ddp_device_ids(),
            **self._ddp_kwargs,
            find_unused_parameters=find_unused_parameters,
            init_sync=init_sync,
        )
        if self.bf16_gradients:
            wrapped.register_comm_hook(None, bf16_compress_hook)
        self.model = wrapped
        return wrapped


def used_parameters(loss: Tensor) -> set[Tensor]:
    """The leaves that a loss is computed from, as far as they require a gradient."""
    found: set[Tensor] = set()
    seen, ahead = {loss.grad_fn}, [loss.grad_fn]
    while ahead:
        node: Any = ahead.pop()
        if hasattr(node, "variable"):  # a leaf
            found.add(node.variable)
        nodes = {source for source, _ in node.next_functions if source is not None} - seen
        seen |= nodes
        ahead += nodes
    return found

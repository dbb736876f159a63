"""AdamP for all parameters of a group at once."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Tensors = list[Tensor] | tuple[Tensor, ...]


class AdamP(torch.optim.Optimizer):
    """Adam without the part of a step that only lengthens weights whose length counts for nothing (Heo et al. 2021).

    Weights that a normalisation follows have a gradient at right angles to them. Where the cosine of the two is small,
    for every row of a weight or for a weight as a whole, the step's part along the row or the weight is taken out, and
    weights decay less.

    It makes the steps of the authors' program, which ``timm.optim.AdamP`` copies, and has the state of its checkpoints.
    These go through the parameters one by one and read each cosine back from the device. Here nothing is read back, and
    what can be done for all parameters together is.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: decay of the averages of gradients and of their squares.
        eps: added to denominators.
        weight_decay: decoupled from the gradients, as in AdamW.
        delta: largest cosine that counts as small, in units of what is expected by chance.
        wd_ratio: share of the weight decay for weights whose step was changed.
        nesterov: look ahead by Nesterov's momentum.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        delta: float = 0.1,
        wd_ratio: float = 0.1,
        nesterov: bool = False,
    ) -> None:
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings | {"delta": delta, "wd_ratio": wd_ratio, "nesterov": nesterov})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step.

        Args:
            closure: computes the loss and its gradients again.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [parameter for parameter in group["params"] if parameter.grad is not None]
            if weights:
                self._step(weights, group)
        return loss

    def _step(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        states = [self._state(weight) for weight in weights]
        means: Tensors = [state["exp_avg"] for state in states]
        squares = [state["exp_avg_sq"] for state in states]
        (beta1, beta2), lr = group["betas"], group["lr"]
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, gradients, alpha=1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_div_(denominators, [math.sqrt(1 - beta2 ** state["step"]) for state in states])
        torch._foreach_add_(denominators, group["eps"])
        if group["nesterov"]:
            means = torch._foreach_mul(means, beta1)
            torch._foreach_add_(means, gradients, alpha=1 - beta1)
        steps = torch._foreach_div(means, denominators)

        decay = lr * group["weight_decay"]
        matrices = [place for place, weight in enumerate(weights) if weight.ndim > 1]
        if matrices:
            of_matrices = [[tensors[place] for place in matrices] for tensors in (weights, gradients, steps)]
            changed = remove_radial(*of_matrices, delta=group["delta"], eps=group["eps"])
            kept = 1 - decay * torch.where(changed, group["wd_ratio"], 1.0)
            for weight, share in zip(of_matrices[0], kept.unbind(), strict=True):
                weight.mul_(share)
        vectors = [weight for weight in weights if weight.ndim <= 1]
        if vectors:
            torch._foreach_mul_(vectors, 1 - decay)
        torch._foreach_mul_(steps, [-lr / (1 - beta1 ** state["step"]) for state in states])
        torch._foreach_add_(weights, steps)

    def _state(self, weight: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[weight]
        if not state:
            state |= {"step": 0, "exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.zeros_like(weight)}
        state["step"] += 1
        return state


def remove_radial(weights: Tensors, gradients: Tensors, steps: Tensors, *, delta: float, eps: float) -> Tensor:
    """Take out of every step, in place, its part along the weight if the gradient is at right angles to the weight.

    Args:
        weights: tensors of at least two dimensions.
        gradients: of the weights.
        steps: of the weights.
        delta: see ``AdamP``.
        eps: least length that a vector counts with.

    Returns:
        For each weight whether its step was changed, on its device.
    """
    lengths, slopes = _row_norms(weights), _row_norms(gradients)
    dots = _row_dots(weights, gradients)
    least = [torch._foreach_clamp_min(norms, eps) for norms in (lengths, slopes)]
    cosines = torch._foreach_abs(torch._foreach_div(dots, torch._foreach_mul(*least)))
    columns = [math.sqrt(weight[0].numel()) for weight in weights]
    largest = torch._foreach_norm(torch._foreach_mul(cosines, columns), ord=torch.inf)
    by_row = torch.stack(largest) < delta

    length, slope = (torch.stack(torch._foreach_norm(norms)) for norms in (lengths, slopes))
    dot = torch.stack([rows.sum() for rows in dots])
    cosine = (dot / (length.clamp(min=eps) * slope.clamp(min=eps))).abs()
    sizes = [math.sqrt(weight.numel()) for weight in weights]
    scaled = torch.stack(torch._foreach_mul(list(cosine.unbind()), sizes))
    as_a_whole = ~by_row & (scaled < delta)

    along = _row_dots(weights, steps)
    of_rows = torch._foreach_div(along, torch._foreach_pow(torch._foreach_add(lengths, eps), 2))
    of_all = torch.where(as_a_whole, torch.stack([rows.sum() for rows in along]) / (length + eps).square(), 0.0)
    for weight, step, own, common, rowwise in zip(
        weights, steps, of_rows, of_all.unbind(), by_row.unbind(), strict=True
    ):
        share = torch.where(rowwise, own, common)
        step.addcmul_(weight, share.view(-1, *[1] * (weight.ndim - 1)), value=-1)
    return by_row | as_a_whole


def _row_norms(tensors: Tensors) -> list[Tensor]:
    return [torch.linalg.vector_norm(tensor.flatten(1), dim=1) for tensor in tensors]


def _row_dots(tensors: Tensors, others: Tensors) -> list[Tensor]:
    return [(tensor * other).flatten(1).sum(1) for tensor, other in zip(tensors, others, strict=True)]

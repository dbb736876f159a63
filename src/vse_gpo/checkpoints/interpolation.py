"""Weights between two states of one model: WiSE-FT (Wortsman et al. 2022) between its start and its end.

Fine-tuning on one data set costs accuracy on others; a part of the way often keeps most of both.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vse_gpo.checkpoints.sources import saved_weights
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE
from vse_gpo.storage.weights import check_weights


def check_alpha(alpha: float) -> None:
    """Refuse a share that is none.

    Raises:
        VSEError: if it is not between 0 and 1.
    """
    if not (isinstance(alpha, int | float) and 0 <= alpha <= 1):
        raise VSEError(f"alpha={alpha}, expected 0, the start, to 1, the end")


def interpolated_weights(start: Mapping[str, Tensor], end: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """(1 − alpha) · start + alpha · end, on the device of the end; exactly the start for 0, exactly the end for 1.

    Whole numbers, such as the batches that a BatchNorm has counted, are those of the end.

    Args:
        start, end: weights of one model without adapters, by name.
        alpha: share of the end.

    Raises:
        VSEError: if the share is not between 0 and 1, or the weights are of two models.
    """
    check_alpha(alpha)
    check_weights(start, end)
    return {
        name: torch.lerp(start[name].to(value), value, alpha) if value.is_floating_point() else value
        for name, value in end.items()
    }


def interpolate(model: VSE, start: str | Path, *, alpha: float) -> VSE:
    """Move a model back towards another state of it, in place; return the model.

    Args:
        model: at the end, without adapters.
        start: source of the other state, such as ``start.ckpt`` of a run with ``callbacks=[default,wise]``; see
            ``load_model``.
        alpha: share of the model's own weights.

    Raises:
        VSEError: if the share is not between 0 and 1, or the source holds no model or another one.
    """
    check_alpha(alpha)  # before anything is read
    try:
        weights = interpolated_weights(saved_weights(start), model.state_dict(), alpha)
    except VSEError as error:
        raise VSEError(f"start={start}: {error}") from error
    model.load_state_dict(weights)
    return model

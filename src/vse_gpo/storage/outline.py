"""Names and shapes of a model's weights, from its settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vse_gpo.errors import VSEError, first_line
from vse_gpo.storage.settings import build

FILLING = {Tensor.normal_, Tensor.uniform_} | {
    getattr(nn.init, name) for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")
}


class Unfilled(TorchFunctionMode):
    """Leaves weights as they are: on the meta device they have no values, and drawing some imports torch's compiler."""

    def __torch_function__(
        self, function: Callable[..., Any], _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if function in FILLING:
            return named["tensor"] if "tensor" in named else args[0]
        return function(*args, **named)


def outline(settings: dict[str, Any], folder: Path | None) -> dict[str, Tensor]:
    """Names and shapes of a model's weights, without the memory for them.

    Raises:
        VSEError: if the settings do not describe a model.
    """
    shapes: dict[str, Tensor] = {}
    try:
        with torch.device("meta"), Unfilled():
            for part in ("image_encoder", "text_encoder", "logits", "interaction"):
                module: nn.Module | None = build(settings.get(part), folder)
                state = {} if module is None else module.state_dict()
                shapes |= {f"{part}.{name}": value for name, value in state.items()}
    except VSEError:
        raise
    except (RuntimeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise VSEError(f"settings of no model ({first_line(error)}); fetch them again") from error
    return shapes

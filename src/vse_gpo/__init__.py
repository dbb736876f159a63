"""VSE∞ image-text retrieval: encoders pooled by the Generalized Pooling Operator (Chen et al., CVPR 2021)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vse_gpo import interaction, losses, pooling, retrieval
    from vse_gpo.errors import VSEError
    from vse_gpo.evaluation.scoring import evaluate
    from vse_gpo.model import VSE
    from vse_gpo.pooling import GPO

__version__ = "0.2.0"
PUBLIC = {  # name → module that defines it, imported when it is asked for: ``--help`` answers without torch
    "GPO": "vse_gpo.pooling",
    "VSE": "vse_gpo.model",
    "VSEError": "vse_gpo.errors",
    "evaluate": "vse_gpo.evaluation.scoring",
}
__all__ = ["GPO", "VSE", "VSEError", "evaluate", "interaction", "losses", "pooling", "retrieval"]


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name in PUBLIC:
        return getattr(import_module(PUBLIC[name]), name)
    if name in __all__:
        return import_module(f"vse_gpo.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

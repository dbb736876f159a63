"""VSE∞ image-text retrieval: encoders pooled by the Generalized Pooling Operator (Chen et al., CVPR 2021)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vse_gpo.model import VSE as VSE

__all__ = ["VSE"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import torch only when a model is asked for, so that ``--help`` answers at once."""
    if name == "VSE":
        from vse_gpo.model import VSE

        return VSE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

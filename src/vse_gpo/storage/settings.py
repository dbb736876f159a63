"""Settings as plain containers: their names, and models built from them.

Only parts of this package and of torch are built: settings may come from untrusted files.
"""

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from vse_gpo.errors import VSEError

BUILDABLE = (
    "vse_gpo.backbones.",
    "vse_gpo.data.",
    "vse_gpo.encoder.",
    "vse_gpo.model.VSE",
    "vse_gpo.pooling.",
    "torch.nn.",
)
INSIDE = "inside:"  # prefix of a path under the folder of the settings
CONFIG = "config.yaml"  # a run's resolved config in its folder

Settings = Mapping[str, Any]


def walk(settings: Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted name with its value, groups included."""
    for key, value in settings.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from walk(value, f"{prefix}{key}.")


def leaves(settings: Settings) -> Iterator[tuple[str, Any]]:
    """Every dotted name with its value, without groups unless they are empty."""
    return ((name, value) for name, value in walk(settings) if not (isinstance(value, dict) and value))


def read_config(folder: Path) -> dict[str, Any]:
    """Read the resolved config of a run from its folder."""
    settings: dict[str, Any] = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    return settings


def build(settings: Any, folder: Path | None = None) -> Any:
    """Build the object that ``_target_`` names, with the other settings as its arguments, innermost parts first.

    Works like Hydra's ``instantiate``, but is safe for untrusted settings: it builds only parts of models.

    Args:
        settings: plain containers.
        folder: folder of the files that the settings name by ``inside:``.

    Raises:
        VSEError: if a target is not a part of a model, a file lies outside the folder or an argument does not fit.
    """
    if isinstance(settings, Mapping):
        parts = {name: build(value, folder) for name, value in settings.items()}
        if "_target_" not in parts:
            return parts
        target = parts.pop("_target_")
        try:
            return _find(target)(**parts)
        except TypeError as error:
            raise VSEError(f"{target}: {error}; the settings belong to another version of vse_gpo") from error
    if isinstance(settings, list):
        return [build(value, folder) for value in settings]
    if isinstance(settings, str) and settings.startswith(INSIDE):
        return _inside(settings.removeprefix(INSIDE), folder)
    return settings


def _find(target: Any) -> Any:
    if not isinstance(target, str) or not target.startswith(BUILDABLE) or "._" in target:
        raise VSEError(f"{target}: not a part of a model, expected a name that begins with {', '.join(BUILDABLE)}")
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
        defined = f"{found.__module__}.{found.__qualname__}"
    except (ImportError, AttributeError) as error:
        raise VSEError(
            f"{target}: no such part ({error}); the settings belong to another version of vse_gpo"
        ) from error
    if not defined.startswith(BUILDABLE):  # imported into the module from elsewhere
        raise VSEError(f"{target}: not a part of a model, it is {defined}")
    return found


def _inside(name: str, folder: Path | None) -> str:
    if folder is None:
        raise VSEError(f"{INSIDE}{name}: settings that name files must come with their folder")
    place = (folder / name).resolve()
    if not place.is_relative_to(folder.resolve()):
        raise VSEError(f"{INSIDE}{name} points outside {folder}")
    return str(place)


def without_weights(settings: Any) -> Any:
    """Settings of the same architecture that fetch and read no weights; these come from elsewhere."""
    if isinstance(settings, Mapping):
        changed = {name: without_weights(value) for name, value in settings.items()}
        if "_target_" in changed:
            changed |= {"random_weights": True} if "random_weights" in changed else {}
            changed |= {"weights": None} if "weights" in changed else {}
            changed |= {"pretrained": False} if isinstance(changed.get("pretrained"), bool) else {}
        return changed
    return [without_weights(value) for value in settings] if isinstance(settings, list) else settings

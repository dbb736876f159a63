"""Settings as plain containers: their names, and models built from them.

Only registered parts are built: settings may come from anywhere.
"""

import importlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from vse_gpo.errors import VSEError
from vse_gpo.storage.registry import FILES, MODEL_PARTS, RENAMED

INSIDE = "inside:"  # begins a path under the folder that the settings lie in
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


def build(settings: Any, folder: Path | None = None, *, parts: Collection[str] = MODEL_PARTS) -> Any:
    """Build the object that ``_target_`` names, with the other settings as its arguments, innermost parts first.

    Works like Hydra's ``instantiate``, but is safe for untrusted settings: it builds only registered parts.

    Args:
        settings: plain containers.
        folder: where the settings lie; then all files that they name lie there too, by ``inside:``.
        parts: names that may be built.

    Raises:
        VSEError: if a target is not among the parts, a file lies outside the folder or an argument does not fit.
    """
    if isinstance(settings, Mapping):
        arguments = {name: build(value, folder, parts=parts) for name, value in settings.items()}
        if "_target_" not in arguments:
            return arguments
        target = arguments.pop("_target_")
        _check_files(target, settings, folder)
        try:
            return _find(target, parts)(**arguments)
        except TypeError as error:
            raise VSEError(f"{target}: {error}; the settings belong to another version of vse_gpo") from error
    if isinstance(settings, list):
        return [build(value, folder, parts=parts) for value in settings]
    if isinstance(settings, str) and settings.startswith(INSIDE):
        return _inside(settings.removeprefix(INSIDE), folder)
    return settings


def _find(target: Any, parts: Collection[str]) -> Any:
    target = RENAMED.get(target, target) if isinstance(target, str) else target
    if not isinstance(target, str) or target not in parts:
        raise VSEError(f"{target}: not a part of a model, expected a registered one such as {min(parts)}")
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _check_files(target: Any, settings: Mapping[str, Any], folder: Path | None) -> None:
    """Refuse settings from elsewhere that name files or models of this machine's owner."""
    for name in FILES & settings.keys():
        value = settings[name]
        if folder is not None and isinstance(value, str) and not value.startswith(INSIDE):
            raise VSEError(f"{target}: {name}={value} is not inside {folder}; a saved model brings all of its files")


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

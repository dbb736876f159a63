"""Names in a config: unknown ones, ones that are still to be set, and suggestions."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vse_gpo.cli.folders import config_folder
from vse_gpo.errors import VSEError, did_you_mean
from vse_gpo.storage.settings import Settings, walk


def check_settings(settings: Settings, base: Settings, *, complete: bool = True) -> None:
    """Refuse unknown names and values that are still to be set.

    Args:
        settings: settings of the run as plain containers, interpolations unresolved.
        base: settings of the same groups without the experiment's own values: every name that exists.
        complete: whether every value must be set.

    Raises:
        VSEError: if there is such a name or value.
    """
    if unknown := list(unknown_names(settings, base)):
        raise VSEError(f"{unknown[0]}: no such setting{did_you_mean(unknown[0], names_to_set(base))}")
    if complete and (missing := [name for name, value in walk(settings) if value == "???"]):
        raise VSEError(f"{', '.join(missing)} must be set; add {' '.join(f'{name}=…' for name in missing)}")


def check_choices(choices: Mapping[str, str | None], overrides: Sequence[str]) -> None:
    """Refuse an option for several parts of the config where the experiment's choice for one of them would hide it.

    Args:
        choices: group, or group@part, → option or None, as Hydra notes them.
        overrides: as typed.

    Raises:
        VSEError: if there is such an option: ``pooling=max``, and an experiment with ``pooling@image_pooling``.
    """
    typed = dict(override.split("=", maxsplit=1) for override in overrides if "=" in override)
    parts = {part: part.partition("@")[0] for part in choices if "@" in part and part not in typed}
    for part, group in parts.items():
        if group in typed and choices[part] != typed[group]:
            to_type = " ".join(f"{other}={typed[group]}" for other in parts if parts[other] == group)
            raise VSEError(
                f"{group}={typed[group]} does not reach {part}, which the experiment sets to {choices[part]}; "
                f"type {to_type}"
            )


def unknown_names(settings: Settings, base: Settings, prefix: str = "") -> Iterator[str]:
    """Dotted names that the base does not have.

    A part with a ``_target_`` may be new; its arguments are checked when it is built.
    """
    for key, value in settings.items():
        part = isinstance(value, dict) and "_target_" in value
        if key not in base:
            if not part:
                yield prefix + key
        elif isinstance(value, dict) and isinstance(base[key], dict) and not part:
            yield from unknown_names(value, base[key], f"{prefix}{key}.")


def names_to_set(settings: Settings) -> list[str]:
    """Dotted names that a user sets, without those that follow from others."""
    return [name for name, value in walk(settings) if not (isinstance(value, str) and "${" in value)]


def plain(config: DictConfig) -> Settings:
    """The config as plain containers, interpolations unresolved."""
    settings: Any = OmegaConf.to_container(config)
    return settings


def without_experiment(config_name: str | None, choices: Mapping[str, str | None]) -> DictConfig:
    """The config of the same groups, without the values of its experiment and its overrides.

    Args:
        config_name: root config of the command.
        choices: group → option or None, as Hydra records them.
    """
    chosen = {group: choice for group, choice in choices.items() if choice and not group.startswith("hydra/")}
    own = chosen.keys() & {"experiment", "debug"}
    groups = [f"~{group}" if group in own else f"{group}={choice}" for group, choice in chosen.items()]
    return hydra.compose(config_name, groups)


def composed_names(config_name: str | None, wrong_name: str) -> list[str]:
    """Names in the config, groups included, when it is composed without the override of a wrong name."""
    overrides = [argument for argument in sys.argv[1:] if re.match(r"[^-=]+=", argument)]
    overrides = [override for override in overrides if override.lstrip("+").partition("=")[0] != wrong_name]
    with (
        hydra.initialize_config_dir(config_folder(), version_base="1.3"),
        suppress(HydraException, OmegaConfBaseException),
    ):
        config = hydra.compose(config_name, overrides, return_hydra_config=True)
        settings = dict(plain(config))
        groups = settings.pop("hydra")["runtime"]["choices"]
        return [*groups, *names_to_set(settings)]
    return []

"""Errors and warnings → lines for the user."""

import re
import sys
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from vse_gpo.cli.arguments import for_shell, quoted
from vse_gpo.cli.faults import fault_line
from vse_gpo.cli.folders import config_folder
from vse_gpo.cli.names import composed_names
from vse_gpo.errors import VSEError, did_you_mean, printable

REMARKS = (  # library warnings about what no user can change
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    "Experiment logs directory",  # CSVLogger finds config.yaml beside its file
    "Checkpoint directory .* exists and is not empty",  # a run resumes in its folder
    "The dirpath has changed from",  # a run resumes in another folder and takes its best checkpoint along
    "You're resuming from a checkpoint that ended before the epoch ended",  # the order of pairs is resumed
    r"It is recommended to use `self\.log\(.*sync_dist=True",  # every process has the metrics of the whole split
    r"torch\.distributed\.nn\.functional\.all_gather is deprecated",  # its replacement is private
    r"Found \d+ module\(s\) in eval mode at the start of training",  # deliberate: BatchNorms of a pretrained trunk
    r"`ModelCheckpoint.*could not find the monitored key",  # an epoch's line says that it was not validated
    r"The number of training batches \(\d+\) is smaller than the logging interval",  # steps are counted over epochs
    "lance is not fork-safe",  # loader processes are forked, and do not use it
    r"The \.grad attribute of a Tensor that is not a leaf",  # torch's compiler asks every input for its gradient
)


EXTRAS = {  # package → the extra of this package that installs it
    **dict.fromkeys(("gradio", "lance", "scipy"), "search"),
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "export"),
    **dict.fromkeys(("joblib", "optuna", "submitit"), "sweep"),
    "datasets": "hub",
    "eccv_caption": "eval",
    "wandb_workspaces": "dashboard",
    "open_clip": "open_clip",
    "peft": "lora",
}
LAUNCHERS = {"joblib", "submitit_local", "submitit_slurm"}  # of Hydra, in an extra
NO_HOME = "Could not determine home directory."  # what pathlib says about ~name/


def ignore_remarks() -> None:
    """Hide library warnings that no user can act on."""
    for remark in REMARKS:
        warnings.filterwarnings("ignore", remark)


def user_message(error: BaseException | None, config_name: str | None) -> str | None:
    """The line for the user from an error or one of its causes; None if the error is a bug in this package."""
    if line := missing_extra(error):
        return line
    while error is not None:
        if isinstance(error, VSEError):
            # an error in a loader's process arrives as a traceback that ends with the message
            return str(error).rpartition("vse_gpo.errors.VSEError: ")[2].strip()
        if isinstance(error, InstantiationException):
            if _call_was_refused(error):
                return one_line(str(error))
            if error.__cause__ is not None and _of_a_library(error.__cause__):
                part = re.search(r"full_key: (\S+)", str(error))
                return f"{part[1] if part else 'config'}: {error.__cause__}"
        elif isinstance(error, HydraException | OmegaConfBaseException):
            return _config_message(error, config_name)
        elif (line := fault_line(error)) is not None:
            return line
        elif isinstance(error, RuntimeError) and str(error) == NO_HOME:
            return "a path begins with ~ and a name, but there is no such user; write the whole path"
        error = error.__cause__
    return None


def missing_extra(error: BaseException | None) -> str | None:
    """The line about a package of an extra that is not installed; None if the error has another cause."""
    while error is not None and not isinstance(error, VSEError):
        package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
        if package in EXTRAS:
            return f"{package} is needed for this and not installed; pip install 'vse_gpo[{EXTRAS[package]}]'"
        error = error.__cause__
    return None


def _call_was_refused(error: InstantiationException) -> bool:
    """Whether the config named something that does not exist, or gave it arguments that it does not take."""
    cause = error.__cause__
    if isinstance(cause, TypeError):
        return cause.__traceback__ is not None and cause.__traceback__.tb_next is None  # raised by the call itself
    return str(error).startswith("Error locating target")


def _of_a_library(error: BaseException) -> bool:
    """Whether no line of this package ran in a part that could not be built: a library refused its arguments."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return not any(frame.f_globals.get("__name__", "").startswith("vse_gpo.") for frame in frames)


def _config_message(error: HydraException | OmegaConfBaseException, config_name: str | None) -> str:
    if isinstance(error, MissingConfigException) and "/" in (error.missing_cfg_file or ""):
        return no_such_option(str(error.missing_cfg_file), error.options)
    if isinstance(error, OverrideParseException):
        return unreadable(error.override or "")
    if match := re.match(r"Ambiguous value for argument '(.+)'", str(error)):
        return several_values(match[1])
    if match := re.match(r"VSEError raised while resolving interpolation: (.+)", str(error)):
        return match[1]
    if match := re.match(r"MissingMandatoryValue .* Missing mandatory value: (\S+)", str(error)):
        return f"{match[1]} must be set; add {match[1]}=…"
    if match := re.search(
        r"Could not override '([^']+)'|Override (\S+)=.* config group '.+' does not exist", str(error)
    ):
        return no_such_setting(match[1] or match[2], config_name)
    return one_line(str(error))


def no_such_option(path: str, options: Iterable[str] | None) -> str:
    """The line about an option that a group does not have, with those that it has.

    Args:
        path: of the option, ``group/option``.
        options: of the group, where Hydra names them.
    """
    group, _, choice = path.rpartition("/")
    options = list(options or sorted(path.stem for path in (Path(config_folder()) / group).glob("*.yaml")))
    overrides = (argument.partition("=") for argument in sys.argv[1:])
    typed = (name for name, _, value in overrides if name.partition("@")[0] == group and value == choice)
    if group == "hydra/launcher" and choice in LAUNCHERS:
        return f"{group}={choice}: not installed; pip install 'vse_gpo[sweep]'"
    hint = did_you_mean(choice, options)
    return f"{next(typed, group)}={choice}: no such option{hint}; there are {', '.join(options)}"


def no_such_setting(name: str, config_name: str | None) -> str:
    """The line about a name that the config does not have, with the one that was probably meant."""
    known = composed_names(config_name, name)
    group, _, setting = name.partition(".")
    parts = sorted(part.removeprefix(f"{group}@") for part in known if part.startswith(f"{group}@"))
    if setting and parts:  # one choice for several parts of the config, whose values are set one by one
        return f"{name}: no such setting (did you mean {' or '.join(f'{part}.{setting}' for part in parts)}?)"
    return f"{name}: no such setting{did_you_mean(name, known)}"


def unreadable(override: str) -> str:
    """The line about an override that Hydra cannot parse, with the argument to type."""
    name, equals, value = override.partition("=")
    to_type = f"type {for_shell(f'{name}={quoted(value)}')}" if equals else "settings are name=value"
    return f"{override}: cannot be read as name=value; {to_type}"


def several_values(override: str) -> str:
    """The line about values separated by commas, which may be one value, a list or several runs."""
    name, _, value = override.partition("=")
    return (
        f"{override}: one value or several? Type {for_shell(f'{name}={quoted(value)}')} for one value with a comma in "
        f"it, {for_shell(f'{name}=[{value}]')} for a list, or -m for a run with each"
    )


def one_line(message: str) -> str:
    """Join the lines of a message, and escape what would steer the terminal."""
    return printable("; ".join(line.strip() for line in message.splitlines() if line.strip()))

"""What the commands share: where the configs lie, which settings exist, and how an error becomes one line."""

import difflib
import functools
import os
import re
import secrets
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vse_gpo.errors import VSEError
from vse_gpo.launch import run_id
from vse_gpo.memory import keep_freed_memory

if TYPE_CHECKING:
    import torch

Job = Callable[[DictConfig], object]  # what it returns is the objective of a sweep
Settings = Mapping[str, Any]
FULL_ERROR = "HYDRA_FULL_ERROR"
CONFIG, WANDB_ID = "config.yaml", "logger.wandb.id"  # a run's resolved config in its folder, and a setting of it


def words_in(path: str) -> int:
    """How many words a SCAN vocabulary file holds, <mask> included."""
    from vse_gpo.data.captions import read_vocabulary

    return len(read_vocabulary(path))


def local(place: str) -> str:
    """The whole path of a file or folder that is here, for a model that is used elsewhere; a hub's name as it is."""
    path = Path(place).expanduser()
    return str(path.resolve()) if path.exists() else place


def wandb_id(resume: str | None, folder: str) -> str:
    """Of the W&B run that goes on: that of the checkpoint to resume, or of the run in the folder; else of a new one."""
    earlier = None
    if resume is not None and Path(resume).is_file():
        from vse_gpo.checkpoints import read_pickle

        earlier = OmegaConf.select(OmegaConf.create(read_pickle(resume, []).get("settings", {})), WANDB_ID)
    elif (Path(folder) / CONFIG).is_file():
        earlier = OmegaConf.select(OmegaConf.load(Path(folder) / CONFIG), WANDB_ID)
    return secrets.token_hex(4) if earlier is None else str(earlier)


def device_of(accelerator: str) -> "torch.device":
    """The GPU if there is one and it is not refused by ``cpu``."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() and accelerator != "cpu" else "cpu")


# ${first:a,b} in a config: the first that is not null
OmegaConf.register_new_resolver("first", lambda *values: next(value for value in values if value is not None))
OmegaConf.register_new_resolver("local", local)
OmegaConf.register_new_resolver("words_in", words_in)  # a resolved config no longer needs the file
OmegaConf.register_new_resolver("run_id", run_id, use_cache=True)
OmegaConf.register_new_resolver("wandb_id", wandb_id, use_cache=True)


def config_folder() -> str:
    """``configs`` inside an installed package, or beside ``src`` in a checkout."""
    package = Path(__file__).parent
    for folder in (package / "configs", package.parents[1] / "configs"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise VSEError(f"no configs beside {package}; install the package again")


def run_command(job: Job, config_name: str) -> None:
    """Compose the config from the command line and run the job on it.

    An error that is meant for the user becomes one line on stderr and exit status 1; any other keeps its traceback.
    HYDRA_FULL_ERROR=1 shows every traceback.
    """
    if os.environ.get(FULL_ERROR) == "1":
        _hydra_main(_checked(job), config_name)
        return
    try:
        with _environment(FULL_ERROR, "1"):  # Hydra hands its errors on instead of printing them
            _hydra_main(_reporting(_checked(job)), config_name)
    except Exception as error:
        _exit_with_message(error, config_name)


@contextmanager
def errors_as_lines() -> Iterator[None]:
    """For commands without a config: an error that is meant for the user becomes one line and exit status 1."""
    try:
        yield
    except VSEError as error:
        sys.exit(f"error: {error}")


def _hydra_main(job: Job, config_name: str) -> None:
    hydra.main(version_base="1.3", config_path=config_folder(), config_name=config_name)(job)()


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name, "")
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ[name] = before


def _checked(job: Job) -> Job:
    """The job, refusing a config with names that nothing reads or with values still to be set."""

    @functools.wraps(job)
    def run(config: DictConfig) -> object:
        hydra_config = HydraConfig.get()
        base = without_experiment(hydra_config.job.config_name, hydra_config.runtime.choices)
        check_settings(_plain(config), _plain(base))
        keep_freed_memory()
        return job(config)

    return run


def _reporting(job: Job) -> Job:
    """The job, ending with one line itself where Hydra would first print a line of its own.

    In a sweep the error goes on to Hydra, which tells which job failed and runs the others.
    """

    @functools.wraps(job)
    def run(config: DictConfig) -> object:
        hydra_config = HydraConfig.get()
        try:
            with _environment(FULL_ERROR, ""):  # the processes that the job starts report as this one does
                return job(config)
        except Exception as error:
            if hydra_config.mode == RunMode.MULTIRUN:
                raise
            folder = Path(hydra_config.runtime.output_dir)
            with suppress(OSError):  # a folder with something in it tells how far the job came
                if folder != Path.cwd():  # some commands write where they stand
                    folder.rmdir()
            _exit_with_message(error, hydra_config.job.config_name)

    return run


def _exit_with_message(error: Exception, config_name: str | None) -> NoReturn:
    message = user_message(error, config_name)
    if message is None:
        raise error
    sys.stderr.write(f"error: {message}\n")
    sys.exit(1)


REMARKS = (  # of libraries, on what no user can change
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    "Experiment logs directory",  # CSVLogger finds config.yaml beside its file
    "Checkpoint directory .* exists and is not empty",  # a run goes on in its folder
    "The dirpath has changed from",  # a run goes on in another folder; what is the best so far comes along
    "You're resuming from a checkpoint that ended before the epoch ended",  # the order of pairs goes on where it was
    r"It is recommended to use `self\.log\(.*sync_dist=True",  # every process has the metrics of the whole split
    r"torch\.distributed\.nn\.functional\.all_gather is deprecated",  # what is to replace it is private
    r"Found \d+ module\(s\) in eval mode at the start of training",  # the BatchNorms of a pretrained trunk, on purpose
    r"`ModelCheckpoint.*could not find the monitored key",  # an epoch's line says that it was not validated
    r"The \.grad attribute of a Tensor that is not a leaf",  # torch's compiler asks every input for its gradient
)


def ignore_remarks() -> None:
    """Keep remarks of libraries that no user can act on off the screen."""
    for remark in REMARKS:
        warnings.filterwarnings("ignore", remark)


# what is wrong with a config


def check_settings(settings: Settings, base: Settings) -> None:
    """Refuse names that nothing reads and values that are still to be set.

    Args:
        settings: of the run, as plain containers, interpolations unresolved.
        base: the same choice of groups without the experiment's own values: every name that exists.

    Raises:
        VSEError: if there is such a name or value.
    """
    if unknown := list(unknown_names(settings, base)):
        raise VSEError(f"{unknown[0]}: no such setting{did_you_mean(unknown[0], names_to_set(base))}")
    if missing := [name for name, value in walk(settings) if value == "???"]:
        raise VSEError(f"{', '.join(missing)} must be set; add {' '.join(f'{name}=…' for name in missing)}")


def unknown_names(settings: Settings, base: Settings, prefix: str = "") -> Iterator[str]:
    """Dotted names that the base does not have.

    A part with a ``_target_`` may be new, and what it takes is checked when it is built.
    """
    for key, value in settings.items():
        part = isinstance(value, dict) and "_target_" in value
        if key not in base:
            if not part:
                yield prefix + key
        elif isinstance(value, dict) and isinstance(base[key], dict) and not part:
            yield from unknown_names(value, base[key], f"{prefix}{key}.")


def walk(settings: Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted name with its value, groups included."""
    for key, value in settings.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from walk(value, f"{prefix}{key}.")


def leaves(settings: Settings) -> Iterator[tuple[str, Any]]:
    """Every dotted name with its value, groups left out unless they are empty."""
    return ((name, value) for name, value in walk(settings) if not (isinstance(value, dict) and value))


def names_to_set(settings: Settings) -> list[str]:
    """Dotted names that a user sets, and not those that follow from others."""
    return [name for name, value in walk(settings) if not (isinstance(value, str) and "${" in value)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question with the nearest names, or those in other groups that end alike; empty if there are none."""
    known = list(known)
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    nearest = nearest or [other for other in known if other.rpartition(".")[2] == name.rpartition(".")[2]]
    return f" (did you mean {' or '.join(nearest)}?)" if nearest else ""


def _plain(config: DictConfig) -> Settings:
    settings: Any = OmegaConf.to_container(config)
    return settings


def without_experiment(config_name: str | None, choices: Mapping[str, str | None]) -> DictConfig:
    """The config of the same groups, without the values of its experiment and overrides.

    Args:
        config_name: of the command.
        choices: group → option or None, as Hydra notes them.
    """
    chosen = {group: choice for group, choice in choices.items() if choice and not group.startswith("hydra/")}
    own = chosen.keys() & {"experiment", "debug"}
    groups = [f"~{group}" if group in own else f"{group}={choice}" for group, choice in chosen.items()]
    return hydra.compose(config_name, groups)


def composed_names(config_name: str | None, wrong_name: str) -> list[str]:
    """Names that the config has, its groups among them, when composed without the override of a wrong name."""
    overrides = [argument for argument in sys.argv[1:] if re.match(r"[^-=]+=", argument)]
    overrides = [override for override in overrides if override.lstrip("+").partition("=")[0] != wrong_name]
    with (
        hydra.initialize_config_dir(config_folder(), version_base="1.3"),
        suppress(HydraException, OmegaConfBaseException),
    ):
        config = hydra.compose(config_name, overrides, return_hydra_config=True)
        settings = dict(_plain(config))
        groups = settings.pop("hydra")["runtime"]["choices"]
        return [*groups, *names_to_set(settings)]
    return []


# errors → lines


def user_message(error: BaseException | None, config_name: str | None) -> str | None:
    """The line for the user that an error or one of its causes carries; None if it is a bug of ours."""
    while error is not None:
        if isinstance(error, VSEError):
            # an error in a loader's process arrives as its traceback, the message last
            return str(error).strip().splitlines()[-1].removeprefix("vse_gpo.errors.VSEError: ")
        if isinstance(error, InstantiationException):
            if _call_was_refused(error):
                return one_line(str(error))
        elif isinstance(error, HydraException | OmegaConfBaseException):
            return _config_message(error, config_name)
        error = error.__cause__
    return None


def _call_was_refused(error: InstantiationException) -> bool:
    """Whether the config named something that does not exist, or gave it arguments that it does not take."""
    cause = error.__cause__
    if isinstance(cause, TypeError):
        return cause.__traceback__ is not None and cause.__traceback__.tb_next is None  # raised by the call itself
    return str(error).startswith("Error locating target")


def _config_message(error: HydraException | OmegaConfBaseException, config_name: str | None) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        hint = did_you_mean(choice, error.options)
        return f"{group}={choice}: no such option{hint}; there are {', '.join(error.options)}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as name=value; quote special characters"
    if match := re.match(r"VSEError raised while resolving interpolation: (.+)", str(error)):
        return match[1]
    if match := re.search(r"Could not override '([^']+)'", str(error)):
        return f"{match[1]}: no such setting{did_you_mean(match[1], composed_names(config_name, match[1]))}"
    return one_line(str(error))


def one_line(message: str) -> str:
    """The lines of a message joined."""
    return "; ".join(line.strip() for line in message.splitlines() if line.strip())

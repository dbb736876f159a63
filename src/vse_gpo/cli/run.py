"""One lazy door for all commands: the config is composed and checked before the work is imported.

So ``--help`` and errors in the config answer at once, and the work itself knows neither Hydra nor a config.
"""

import functools
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from vse_gpo.cli import resolvers as _registered  # noqa: F401, configs call them
from vse_gpo.cli.allocator import keep_freed_memory
from vse_gpo.cli.arguments import read_arguments
from vse_gpo.cli.folders import config_folder
from vse_gpo.cli.gpu import warn_of_unused_gpu
from vse_gpo.cli.messages import ignore_remarks, one_line, user_message
from vse_gpo.cli.names import check_choices, check_settings, plain, without_experiment
from vse_gpo.cli.places import check_places
from vse_gpo.cli.products import product_settings
from vse_gpo.cli.ranges import check_numbers
from vse_gpo.errors import VSEError

Arguments = Callable[[DictConfig, Path], dict[str, Any]]  # config and output folder → named arguments of the work
Job = Callable[[DictConfig], object]  # returns the objective of a sweep
FULL_ERROR = "HYDRA_FULL_ERROR"


def all_settings(config: DictConfig, _folder: Path) -> dict[str, Any]:
    """Every setting as an argument of its own name."""
    settings: Any = OmegaConf.to_container(config, resolve=True)
    return dict(settings)


def run_command(
    work: str | Callable[..., object],
    config_name: str,
    *,
    arguments: Arguments = all_settings,
    words: Sequence[str] = (),
    verbatim: Sequence[str] = (),
    bare: str | None = None,
    computes: bool = False,
    complete: bool = True,
    instead: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Compose the config from the command line, check it, import the work and run it.

    An error for the user becomes one line on stderr and exit status 1; any other error keeps its traceback.
    HYDRA_FULL_ERROR=1 shows every traceback.

    Args:
        work: ``module:function``, imported after the config was checked; or the function itself.
        config_name: root config in ``configs``.
        arguments: config and output folder → named arguments of the work.
        words, verbatim, bare: see ``read_arguments``.
        computes: whether a GPU would help; if it stays unused, one line says so.
        complete: whether every value must be set and every file be there; the work of others says what is not.
        instead: setting → ``module:function`` that takes the place of the work where the setting is not null.
    """
    try:
        typed = read_arguments(sys.argv[1:], config_name=config_name, words=words, verbatim=verbatim, bare=bare)
    except VSEError as error:
        _exit_with_message(error, config_name)
    sys.argv[1:] = typed.overrides
    job = _checked(work, arguments, typed.words, computes=computes, complete=complete, instead=instead)
    if os.environ.get(FULL_ERROR) == "1":
        _hydra_main(job, config_name)
        return
    try:
        with _environment(FULL_ERROR, "1"):  # makes Hydra raise its errors instead of printing them
            _hydra_main(_reporting(job), config_name)
    except Exception as error:
        _exit_with_message(error, config_name)


def maker(part: DictConfig) -> Callable[..., Any]:
    """A function that builds a part of the config; takes further arguments of the part by name."""
    return functools.partial(instantiate, part)


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


def _checked(
    work: str | Callable[..., object],
    arguments: Arguments,
    words: Mapping[str, Any],
    *,
    computes: bool,
    complete: bool,
    instead: Mapping[str, str],
) -> Job:
    """The work, run after the config was checked for unknown names, values still to be set and impossible numbers."""

    def run(config: DictConfig) -> object:
        hydra_config = HydraConfig.get()
        base = without_experiment(hydra_config.job.config_name, hydra_config.runtime.choices)
        for name, value in words.items():
            config[name] = [uninterpolated(one) for one in value] if isinstance(value, list) else uninterpolated(value)
        typed: Any = OmegaConf.to_container(hydra_config.overrides.task)  # as typed: ${…} belongs to the config
        check_choices(hydra_config.runtime.choices, typed)
        check_settings(plain(config), plain(base), complete=complete)
        check_numbers(plain(config))
        if complete:
            check_places(plain(config))
        computing = product_settings(plain(config))
        named = arguments(config, Path(hydra_config.runtime.output_dir))
        chosen = next((other for setting, other in instead.items() if config[setting] is not None), work)
        keep_freed_memory()
        ignore_remarks()
        if computes:
            settings = (OmegaConf.select(config, name) for name in ("trainer.accelerator", "accelerator"))
            warn_of_unused_gpu(str(next((setting for setting in settings if setting is not None), "auto")))
        with computing():
            return _imported(chosen)(**named)

    return run


def uninterpolated(word: str) -> str:
    """The text with every ``${`` escaped, so that OmegaConf leaves it as it is."""
    return re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + "\\${", word)


def _imported(work: str | Callable[..., object]) -> Callable[..., object]:
    if not isinstance(work, str):
        return work
    module, _, name = work.partition(":")
    function: Callable[..., object] = getattr(importlib.import_module(module), name)
    return function


def _reporting(job: Job) -> Job:
    """The job, printing the line of an error itself, because Hydra would first print a line of its own.

    In a sweep, the error is passed on to Hydra, which says which job failed and runs the others.
    """

    def run(config: DictConfig) -> object:
        hydra_config = HydraConfig.get()
        try:
            with _environment(FULL_ERROR, ""):  # the processes that the job starts report as this one does
                return job(config)
        except Exception as error:
            if hydra_config.mode == RunMode.MULTIRUN:
                raise
            folder = Path(hydra_config.runtime.output_dir)
            with suppress(OSError):  # a folder with files shows how far the job got
                if folder != Path.cwd():  # some commands write to the current folder
                    folder.rmdir()
            _exit_with_message(error, hydra_config.job.config_name)

    return run


def _exit_with_message(error: Exception, config_name: str | None) -> NoReturn:
    message = user_message(error, config_name)
    if message is None:
        raise error
    sys.stderr.write(f"error: {one_line(message)}\n")
    sys.exit(1)

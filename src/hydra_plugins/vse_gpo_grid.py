"""hydra/sweeper=grid: every combination of a sweep's values. Hydra finds plugins only in this package."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from vse_gpo.cli.sweeps import Job, job_name, print_end

SUBDIR = "hydra.sweep.subdir"


class GridSweeper(Sweeper):
    """Hydra's basic sweeper, but that folders are named by their jobs' values and that the sweep ends with a ranking.

    The names do not depend on the order or the number of jobs: a value that is added later leaves the finished runs
    where they are. Whoever sets ``hydra.sweep.subdir`` names the folders.

    Args:
        max_batch_size: jobs that are launched together; None launches all of them.
        params: setting → values, in Hydra's grammar: ``1,2``, ``choice(1,2)``, ``range(0,5)``.
    """

    def __init__(self, *, max_batch_size: int | None = None, params: Mapping[str, Any] | None = None) -> None:
        self.max_batch_size = max_batch_size
        self.params = params or {}
        self.hydra: DictConfig
        self.launcher: Launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context, self.hydra = config, hydra_context, config.hydra
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        typed = [f"{name}={values}" for name, values in self.params.items()]
        parsed = OverridesParser.create().parse_overrides([*typed, *arguments])
        values = {override.get_key_element(): values_of(override) for override in parsed}
        swept = [name for name, several in values.items() if len(several) > 1]
        combinations = [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]
        jobs = [[f"{name}={value}" for name, value in chosen.items()] for chosen in combinations]
        differing = [{name: chosen[name] for name in swept} for chosen in combinations]
        given: Any = OmegaConf.to_container(self.hydra.overrides.hydra)  # as typed: it may hold ${hydra.job.num}
        if swept and not any(one.startswith(f"{SUBDIR}=") for one in given):
            jobs = [[*job, f"{SUBDIR}='{job_name(own)}'"] for job, own in zip(jobs, differing, strict=True)]
        self.validate_batch_is_legal(jobs)  # a misspelt value ends the sweep before its first run
        folder = Path(self.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        size = self.max_batch_size or len(jobs)
        returns: list[JobReturn] = []
        for first in range(0, len(jobs), size):
            returns += self.launcher.launch(jobs[first : first + size], initial_job_idx=first)
        folders = [Path(one.hydra_cfg.hydra.runtime.output_dir) for one in returns]  # type: ignore[union-attr]
        print_end(folder, [*map(Job, differing, folders)])
        for one in returns:
            _ = one.return_value  # raises the error of the first job that failed


def values_of(override: Override) -> Sequence[str]:
    """The values of a setting, as they are typed for one job each.

    Raises:
        HydraException: if it is an interval, which has no end of values.
    """
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if not override.is_discrete_sweep():
        raise HydraException(f"{override.input_line}: an interval, expected values; hydra/sweeper=study draws from one")
    return list(override.sweep_string_iterator())

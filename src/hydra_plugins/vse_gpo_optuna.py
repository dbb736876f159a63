"""hydra/sweeper=study: Optuna chooses the values of a sweep's jobs. Hydra finds plugins only in this package."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    import optuna


class OptunaSweeper(Sweeper):
    """Hydra's own Optuna sweeper requires Optuna below 3; this one needs a current Optuna, and can be resumed.

    The study is a file in the sweep's folder. The same sweep in the same folder resumes: first the trials that were
    running, whose jobs resume from their checkpoints, then new ones. A trial's number is its job's number.

    Args:
        sampler: seed → sampler. The seed depends on the number of trials so far, so that a resumed sweep draws new
            values.
        trials: trials of the whole study.
        at_once: trials that are launched together, without each other's results.
        seed: seed of the first sampler.
        params: setting → values, in Hydra's grammar: ``1,2`` or ``choice(1,2)``, ``interval(0.1,0.3)``,
            ``tag(log,interval(1e-4,1e-3))``.
    """

    def __init__(
        self,
        *,
        sampler: Callable[..., Any],
        trials: int,
        at_once: int,
        seed: int,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.sampler = sampler
        self.trials = trials
        self.at_once = at_once
        self.seed = seed
        self.params = params or {}
        self.folder: Path
        self.launcher: Launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.folder = Path(config.hydra.sweep.dir)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        optuna = import_optuna()
        typed = [f"{name}={values}" for name, values in self.params.items()]
        overrides = {o.get_key_element(): o for o in OverridesParser.create().parse_overrides([*typed, *arguments])}
        space = {name: distribution(o) for name, o in overrides.items() if o.is_sweep_override()}
        fixed = [o.input_line for o in overrides.values() if not o.is_sweep_override() and o.input_line is not None]
        self.folder.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(self.folder / "study.log"))
        )
        study = optuna.create_study(storage=storage, study_name="study", direction="maximize", load_if_exists=True)
        study.sampler = self.sampler(seed=self.seed + len(study.trials))
        for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            self._run(study, [trial], fixed)
        while (begun := len(study.trials)) < self.trials:
            together = range(min(self.at_once, self.trials - begun))
            self._run(study, [study.ask(space) for _ in together], fixed)
        if study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]):
            ended = f"best of {len(study.trials)} trials: {study.best_value:.1f}, {study.best_params}"
        else:
            ended = f"no result from {len(study.trials)} trials: all failed or were stopped by the pruner"
        print(ended)  # noqa: T201

    def _run(self, study: "optuna.Study", trials: Sequence[Any], fixed: Sequence[str]) -> None:
        jobs = self.launcher.launch(
            [[*fixed, *(f"{name}={value}" for name, value in trial.params.items())] for trial in trials],
            initial_job_idx=trials[0].number,
        )
        for trial, job in zip(trials, jobs, strict=True):  # the study already knows which ones its pruner stopped
            if job.status == JobStatus.COMPLETED:
                study.tell(trial.number, float(job.return_value), skip_if_finished=True)
            else:
                study.tell(trial.number, state=import_optuna().trial.TrialState.FAIL, skip_if_finished=True)
        if all(job.status == JobStatus.FAILED for job in jobs):
            _ = jobs[0].return_value  # raises its error


def import_optuna() -> Any:
    """Optuna, an extra: Hydra loads this module for every command, and only a study needs it."""
    import optuna  # noqa: PLC0415, see above

    return optuna


def distribution(override: Override) -> "optuna.distributions.BaseDistribution":
    """Distribution of the values of a setting."""
    distributions = import_optuna().distributions
    if not override.is_interval_sweep():
        return distributions.CategoricalDistribution(list(override.sweep_string_iterator()))
    values: Any = override.value()
    log = "log" in values.tags
    if isinstance(values.start, int) and isinstance(values.end, int):
        return distributions.IntDistribution(values.start, values.end, log=log)
    return distributions.FloatDistribution(values.start, values.end, log=log)

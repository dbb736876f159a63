"""One run: train a model, then test its best checkpoint."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from vse_gpo.checkpoints.initial import start_from
from vse_gpo.checkpoints.sources import saved_weights
from vse_gpo.data.datamodule import PairsDataModule, ReadOnce
from vse_gpo.errors import VSEError
from vse_gpo.retrieval.protocols import PROTOCOLS, check_protocols
from vse_gpo.storage.locks import only_process_in
from vse_gpo.storage.settings import CONFIG, read_config
from vse_gpo.training.accelerator import check_accelerator
from vse_gpo.training.dense_captions import check_dense_used
from vse_gpo.training.ending import report_run, tested
from vse_gpo.training.module import RetrievalModule
from vse_gpo.training.out_of_memory import memory_explained
from vse_gpo.training.processes import end_with_parent, lightning_starts_processes, wait_for
from vse_gpo.training.run_folder import (
    begun,
    checkpoint_to_resume,
    finished,
    keep_logged,
    steps_taken,
    write_config,
)
from vse_gpo.training.validation import check_validation

OBJECTIVE = "val/best_rsum"
Maker = Callable[..., Any]


def train(
    *,
    settings: dict[str, Any],
    folder: Path,
    resume: str | None,
    init: str | None,
    init_skip: Sequence[str],
    devices: Any,
    in_sweep: bool,
    seed: int,
    max_epochs: int | None,
    max_steps: int,
    splits: Sequence[str],
    test_protocols: Sequence[str] | None,
    make_source: Maker,
    make_data: Maker,
    make_module: Maker,
    make_trainer: Maker,
    make_callbacks: Sequence[Maker],
    make_loggers: Sequence[Maker],
    make_checkpoint_io: Maker,
    make_adapters: Maker | None = None,
) -> float:
    """Train as the settings say; the run folder gets all results.

    If started again in the same folder, an interrupted run resumes; a finished run is left as it is.

    Args:
        settings: the run's resolved config, kept in its folder and its checkpoints.
        folder: the run's folder.
        resume: checkpoint to resume from, of this or another folder.
        init: source of the weights that a new run starts from, see ``load_model``; everything else starts anew.
        init_skip: parts whose weights are not taken from there.
        devices: as Lightning's Trainer takes them.
        in_sweep: whether other runs follow in this process.
        seed: seed of everything random.
        max_epochs, max_steps: where the run ends, whichever comes first; −1, and for epochs None, sets no end.
        splits: names of the splits that the run reads.
        test_protocols: protocols of the test; None tests nothing.
        make_source, make_data, make_module, make_trainer, make_callbacks, make_loggers, make_checkpoint_io: build the
            parts, after the seed is set; ``make_data`` takes the source, the result of ``make_module`` the settings.
        make_adapters: builds what gives a model adapters, after it has its first weights; None trains without.

    Returns:
        The best rSum on dev, the objective of a sweep.
    """
    resume = None if resume is None else str(Path(resume).expanduser())
    if init is not None and resume is not None:
        raise VSEError(f"init={init} and resume={resume}: a resumed run brings its weights; set one of them")
    if init is None and init_skip:
        raise VSEError(f"init_skip=[{','.join(init_skip)}] leaves out parts of init, which is not set; set init=FILE")
    check_dense_used(settings["dataset"]["dense"], settings["dense"])
    with ExitStack() as held:
        held.enter_context(only_run_in(folder, devices))
        resumes = resume is None or begun(folder, settings)  # also if a resumed run is started again
        results = finished(folder, settings) if resumes else None
        if results is not None:
            print(f"{folder}: finished before, val/best_rsum {results[OBJECTIVE]:.1f}; delete it to train again")
        elif in_sweep and lightning_starts_processes(devices):
            write_config(folder, settings)
            held.close()  # for the command
            run_by_itself(folder)
            results = finished(folder, settings)
        else:
            start, taken = (checkpoint_to_resume(folder) if resumes else None), None
            if start is None and resume is not None:
                start, taken = resume, steps_taken(resume, max_epochs, max_steps)
            check_accelerator(settings["trainer"]["accelerator"])
            bare = make_trainer(logger=False, default_root_dir=str(folder))  # refuses its settings before all reading
            adapt = None if make_adapters is None else make_adapters()  # this too
            initial = None if init is None or start is not None else saved_weights(init)
            pl.seed_everything(seed, workers=True, verbose=False)
            data = opened_data(make_source, make_data, splits, test_protocols)
            check_validation(bare, len(data.train_dataloader()))
            module: RetrievalModule = make_module()(settings=settings)
            if initial is not None:
                rank_zero_only(print)(start_from(module.model, initial, source=str(init), left_out=init_skip))
                initial = None  # frees it
            if adapt is not None:
                adapt(module.model)
            rank_zero_only(write_config)(folder, settings)
            rank_zero_only(keep_logged)(folder)
            with own_wandb_run(), memory_explained():
                trainer: pl.Trainer = make_trainer(
                    callbacks=[make() for make in make_callbacks],
                    logger=[make() for make in make_loggers],
                    default_root_dir=str(folder),
                    plugins=[make_checkpoint_io()],
                )
                trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
                results = best_of_dev(trainer, taken)
                if test_protocols is not None:
                    results |= tested(trainer, module, data, results["best_checkpoint"])
            report_run(trainer, module, folder, results, settings["name"], seed)
    if results is None:
        raise VSEError(f"{folder}: the run has left no results; see what it printed above")
    objective: float = results[OBJECTIVE]
    return objective


def only_run_in(folder: Path, devices: Any) -> AbstractContextManager[None]:
    """Hold the run's folder in its first process; the others that Lightning has started end with it.

    Raises:
        VSEError: if another run is at work in it.
    """
    if getattr(rank_zero_only, "rank", 0) == 0:
        return only_process_in(folder)
    if lightning_starts_processes(devices):
        end_with_parent()
    return nullcontext()


def opened_data(
    make_source: Maker, make_data: Maker, splits: Sequence[str], test_protocols: Sequence[str] | None
) -> PairsDataModule:
    """Read and check the data: before a hub is asked for the tokeniser, and bad test data before the training."""
    source = ReadOnce(make_source())
    for name in splits:
        source.split(name)
    data: PairsDataModule = make_data(source=source)
    data.setup("fit")
    if (turns := data.split("train").turns) is not None:
        rank_zero_only(print)(f"train: {turns}")
    if test_protocols is not None:
        data.setup("test")
        check_protocols(test_protocols, len(data.split("test").images), PROTOCOLS)
    return data


def run_by_itself(folder: Path) -> None:
    """Run the job whose config is in the folder as a separate command.

    Lightning starts a run's other processes by the command that was typed. In a sweep, this is the command of the whole
    sweep, and only the first job would get its processes.
    """
    quoted = str(folder).replace("'", r"\'")
    config = ["--config-dir", str(folder), "--config-name", Path(CONFIG).stem]
    of_hydra = [f"hydra.run.dir='{quoted}'", "hydra.output_subdir=null", "hydra/job_logging=quiet"]
    wait_for([sys.executable, "-m", "vse_gpo.train", *config, *of_hydra])


@contextmanager
def own_wandb_run() -> Iterator[None]:
    """End a job's W&B run with the job, so that the next job of a sweep starts its own."""
    try:
        yield
    finally:
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish(exit_code=int(sys.exc_info()[0] is not None))


def written_config(folder: str) -> dict[str, Any] | None:
    """The config in a run's folder, for the first process's logger; None in the others, as it may not be there yet."""
    config: dict[str, Any] | None = rank_zero_only(read_config)(Path(folder))
    return config


def best_of_dev(trainer: pl.Trainer, taken: int | None) -> dict[str, Any]:
    """The best rSum on dev and its checkpoint.

    Args:
        trainer: after the training.
        taken: the steps of the checkpoint that a new run was resumed from.

    Raises:
        VSEError: if there was no step left to train, or no epoch was completed.
    """
    best: Any = trainer.checkpoint_callback
    if trainer.global_step == taken:
        raise VSEError(
            f"nothing to train: the run had already ended, epoch {trainer.current_epoch} of {trainer.max_epochs}; "
            "set trainer.max_epochs to train longer"
        )
    if best.best_model_score is None:
        raise VSEError(
            f"no epoch to test: none was validated up to step {trainer.global_step}; train at least one whole epoch"
        )
    return {
        OBJECTIVE: float(best.best_model_score),
        "best_checkpoint": best.best_model_path,
        "epochs": trainer.current_epoch,
    }

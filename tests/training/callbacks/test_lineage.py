"""What W&B is told of a run's data and of its model; W&B itself is not asked."""

from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import WandbLogger

from tests.helpers.tiny import save_last, tiny_module, tiny_trainer
from vse_gpo.errors import VSEError
from vse_gpo.training.callbacks.lineage import Lineage, data_artifact
from vse_gpo.training.module import RetrievalModule


class Told:
    """A W&B run that notes what it is told."""

    def __init__(self, *, offline: bool = False) -> None:
        self.offline, self.id = offline, "abc"
        self.used: list[Any] = []
        self.linked: list[dict[str, str]] = []

    def use_artifact(self, artifact: Any) -> None:
        self.used.append(artifact)

    def link_model(self, **model: str) -> None:
        self.linked.append(model)


class ToldLogger(WandbLogger):
    def __init__(self, run: Told) -> None:
        self.told = run

    @property
    def experiment(self) -> Any:
        return self.told


def trainer_of(folder: Path, *loggers: WandbLogger, best: str = "best.ckpt") -> Any:
    kept = save_last(folder)
    kept.best_model_path = best
    return tiny_trainer(folder, logger=list(loggers), callbacks=[kept])


@pytest.fixture(scope="module")
def module() -> RetrievalModule:
    return tiny_module()


def lineage(**changes: Any) -> Lineage:
    return Lineage(**({"data": "f8k", "root": None, "splits": ["train"]} | changes))


def test_the_data_are_an_input_and_the_best_model_is_linked(tmp_path, module):
    run = Told()
    trainer, callback = trainer_of(tmp_path, ToldLogger(run)), lineage(registered="vse")
    callback.setup(trainer, module, "fit")
    callback.on_fit_start(trainer, module)
    callback.on_fit_end(trainer, module)
    assert [(one.name, one.type, one.metadata) for one in run.used] == [
        ("f8k", "dataset", {"root": None, "splits": ["train"]})
    ]
    assert run.linked == [{"path": "best.ckpt", "registered_model_name": "vse", "name": "model-abc"}]


@pytest.mark.parametrize(("registered", "best"), [(None, "best.ckpt"), ("vse", "")])
def test_nothing_is_linked_without_a_name_or_a_checkpoint(tmp_path, module, registered, best):
    run = Told()
    lineage(registered=registered).on_fit_end(trainer_of(tmp_path, ToldLogger(run), best=best), module)
    assert run.linked == []


def test_only_the_first_process_tells(tmp_path, module, monkeypatch):
    run = Told()
    trainer = trainer_of(tmp_path, ToldLogger(run))
    monkeypatch.setattr(type(trainer), "is_global_zero", False)
    lineage().setup(trainer, module, "fit")
    lineage().on_fit_start(trainer, module)
    assert run.used == []


@pytest.mark.parametrize(
    ("loggers", "found"), [([], "no W&B logger"), ([ToldLogger(Told(offline=True))], "logger.wandb.offline=true")]
)
def test_a_run_that_wandb_would_not_tell_of_is_refused(tmp_path, module, loggers, found):
    with pytest.raises(VSEError, match=rf"callbacks\.lineage with {found}, expected logger=wandb with W&B online"):
        lineage().setup(trainer_of(tmp_path, *loggers), module, "fit")


def test_the_artifact_holds_the_text_files_of_the_splits_and_changes_with_them(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "wandb"))
    folder = tmp_path / "precomp"
    folder.mkdir()
    for name in ("train_caps.txt", "train_ids.txt", "test_caps.txt"):
        (folder / name).write_text("a\n", encoding="utf-8")
    first = data_artifact("f8k", str(tmp_path), ["train", "dev"])
    assert sorted(first.manifest.entries) == ["train_caps.txt", "train_ids.txt"]
    (folder / "train_caps.txt").write_text("b\n", encoding="utf-8")
    assert data_artifact("f8k", str(tmp_path), ["train", "dev"]).digest != first.digest

"""Two processes do what one does: the same metrics, loss, gradients and weights."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy

from tests.tiny import averaged, tiny_data, tiny_module, tiny_trainer, weights
from vse_gpo.callbacks.averaging import AveragedWeights
from vse_gpo.data.pairs import EvaluationShare


class KeepWeights(pl.Callback):
    """Writes the trained weights and their average where the parent process finds them."""

    def __init__(self, folder: Path, average: AveragedWeights) -> None:
        self.folder = folder
        self.average = average

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        average = {f"average of {name}": value for name, value in self.average.state_dict()["average"].items()}
        torch.save(weights(module) | average, self.folder / f"weights{trainer.global_rank}.pt")


def run(folder: Path, processes: int, share: type[EvaluationShare] = EvaluationShare) -> dict[str, float]:
    """Train for three epochs without anything random in a step, and return the metrics."""
    folder.mkdir()
    changes = {"strategy": DDPStrategy(start_method="spawn", process_group_backend="gloo", find_unused_parameters=True)}
    average = averaged(folder)
    trainer = tiny_trainer(
        folder,
        devices=processes,
        callbacks=[average, KeepWeights(folder, average)],
        enable_checkpointing=False,
        **(changes if processes > 1 else {}),
    )
    trainer.fit(tiny_module(dropout=0.0, drop_regions=0.0), datamodule=tiny_data(drop_last=True))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Path, dict[int, dict[str, float]]]:
    folder = tmp_path_factory.mktemp("ddp")
    return folder, {processes: run(folder / str(processes), processes) for processes in (1, 2)}


def test_validation_gives_the_same_numbers(both):
    _, metrics = both
    names = [name for name in metrics[1] if name.startswith("val/")]
    assert len(names) == 2 * 11  # of the trained weights and of their average
    assert [metrics[2][name] for name in names] == pytest.approx([metrics[1][name] for name in names])


def test_weights_are_the_same_after_frozen_ramped_and_hardest_epochs(both):
    folder, metrics = both
    one = torch.load(folder / "1" / "weights0.pt", weights_only=True)
    assert len(one) == 2 * len(weights(tiny_module()))
    for rank in (0, 1):
        two = torch.load(folder / "2" / f"weights{rank}.pt", weights_only=True)
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-5)
    assert metrics[2]["train/loss"] == pytest.approx(metrics[1]["train/loss"], rel=1e-4)


def test_shares_cover_every_item_once():
    for items in (1, 2, 7, 8):
        shares = [list(EvaluationShare(items, rank=rank, processes=3)) for rank in range(3)]
        assert sorted(row for share in shares for row in share) == list(range(items))

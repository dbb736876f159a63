"""What is found in a run's folder when it is started again."""

import pytest
import torch

from vse_gpo.errors import VSEError
from vse_gpo.training.run_folder import (
    LAST,
    checkpoint_to_resume,
    finished,
    keep_logged,
    steps_taken,
    write_config,
    write_metrics,
)

SETTINGS = {"seed": 0, "resume": None, "optimizer": {"lr": 1e-5, "milestones": [3]}}


@pytest.fixture
def folder(tmp_path):
    """Of a run that was interrupted."""
    write_config(tmp_path, SETTINGS)
    (tmp_path / LAST).parent.mkdir()
    (tmp_path / LAST).write_bytes(b"")
    return tmp_path


def test_an_empty_folder_holds_nothing(tmp_path):
    assert finished(tmp_path, SETTINGS) is None
    assert checkpoint_to_resume(tmp_path) is None
    keep_logged(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_resumes_and_a_finished_one_is_known(folder):
    assert finished(folder, SETTINGS) is None
    assert checkpoint_to_resume(folder) == str(folder / LAST)
    write_metrics(folder, {"val/best_rsum": 1.5})
    assert finished(folder, SETTINGS) == {"val/best_rsum": 1.5}
    assert finished(folder, SETTINGS | {"resume": "elsewhere"}) == {"val/best_rsum": 1.5}


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"seed": 1}, "seed=0 where it is 1 now"),
        ({"optimizer": {"lr": 1e-5, "milestones": [4]}}, "optimizer.milestones=[3] where it is [4] now"),
        ({"new": 1}, "new=None where it is 1 now"),
    ],
)
def test_a_run_of_another_config_is_not_touched(folder, change, difference):
    with pytest.raises(VSEError) as error:
        finished(folder, SETTINGS | change)
    assert difference in str(error.value)
    assert "\n" not in str(error.value)


def test_a_config_that_came_to_nothing_may_be_replaced(tmp_path):
    write_config(tmp_path, SETTINGS)
    assert finished(tmp_path, SETTINGS | {"seed": 1}) is None


def test_a_run_without_its_config_is_not_touched(folder):
    (folder / "config.yaml").unlink()
    with pytest.raises(VSEError, match=r"without its config\.yaml"):
        finished(folder, SETTINGS)


def test_every_part_of_the_metrics_is_kept(tmp_path):
    for part in "abc":
        (tmp_path / "metrics.csv").write_text(part)
        keep_logged(tmp_path)
    assert [(tmp_path / f"metrics.part{n}.csv").read_text() for n in range(3)] == ["a", "b", "c"]


@pytest.mark.parametrize("content", [{"state_dict": {}, "epoch": 1}, torch.ones(2)], ids=["weights", "a tensor"])
def test_weights_alone_are_no_checkpoint_to_resume_from(tmp_path, content):
    torch.save(content, tmp_path / "best_ema.ckpt")
    with pytest.raises(VSEError, match=r"best_ema\.ckpt: holds no training state"):
        steps_taken(str(tmp_path / "best_ema.ckpt"), 25)


def test_a_checkpoint_beyond_the_runs_end_is_not_resumed(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"optimizer_states": [], "epoch": 2, "global_step": 18}, path)
    assert [steps_taken(str(path), max_epochs) for max_epochs in (3, 4, -1, None)] == [18] * 4
    with pytest.raises(VSEError, match=r"saved in epoch 2, counted from 0, and trainer\.max_epochs=2 ends the run"):
        steps_taken(str(path), 2)
    assert steps_taken(str(path), -1, 19) == 18
    with pytest.raises(VSEError, match=r"saved after step 18, and trainer.max_steps=18 ends the run before it; set"):
        steps_taken(str(path), -1, 18)

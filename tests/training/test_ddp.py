"""Two processes do what one does: the same metrics, loss, gradients and weights."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from tests.helpers.ddp_runs import DENSE, LOSSES, STEPS, run_all
from tests.helpers.tiny_duals import dual_folder
from tests.helpers.tiny_root import tiny_root
from vse_gpo import train
from vse_gpo.data.pairs import EvaluationShare
from vse_gpo.training.ddp import used_parameters
from vse_gpo.training.processes import run_id

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What one process, and two under torchrun, wrote; and the run's folder of two."""
    folder = tmp_path_factory.mktemp("ddp")
    dual_folder("clip", folder / "clip")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with (folder / "output.txt").open("w") as output:
        both = subprocess.Popen(
            [*torchrun, "-m", "tests.helpers.ddp_runs", str(folder)],
            env=os.environ | {"PYTHONPATH": paths},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        run_all(folder / "1", processes=1, micro_batches=[None])
        assert both.wait() == 0, (folder / "output.txt").read_text()
    return folder


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("loss", [*LOSSES, *DENSE, "maxsim"])
def test_three_clipped_steps_are_the_same(folder, loss, micro_batch, rank):
    one = read(folder / "1" / f"{loss}, None, 0.pt")
    two = read(folder / "2" / f"{loss}, {micro_batch}, {rank}.pt")
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-5, atol=0.0)
    assert len(one["gradients"]) == STEPS
    norms = []
    for found, expected in zip(two["gradients"], one["gradients"], strict=True):
        assert found.keys() == expected.keys()
        assert ("loss.log_scale" in found) == (loss == "InfoNCE")
        norms.append(torch.stack([gradient.norm() for gradient in expected.values()]).norm())
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-5 * float(norms[-1]))
    assert max(norms) > 2.0  # so the trainer clipped
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("micro_batch", [None, 2])
def test_the_first_gradient_of_scan_is_the_same(folder, micro_batch, rank):
    """Later ones are not compared: its softmaxes of scaled cosines magnify the last bit a hundredfold."""
    one = read(folder / "1" / "scan, None, 0.pt")["gradients"][0]
    two = read(folder / "2" / f"scan, {micro_batch}, {rank}.pt")["gradients"][0]
    norm = float(torch.stack([gradient.norm() for gradient in one.values()]).norm())
    assert norm > 2.0
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=1e-5, atol=1e-6 * norm)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_projections_statistics_are_those_of_all_processes(folder, rank):
    one = read(folder / "1" / "residual projection, 0.pt")
    two = read(folder / "2" / f"residual projection, {rank}.pt")
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-5, atol=0.0)
    for found, expected in zip(two["gradients"], one["gradients"], strict=True):
        norm = float(torch.stack([gradient.norm() for gradient in expected.values()]).norm())
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-5 * norm)
    for name, weight in one["weights"].items():  # running statistics among them
        torch.testing.assert_close(two["weights"][name], weight, rtol=1e-5, atol=1e-5)


# the exchange of gradients


@pytest.mark.parametrize("rank", [0, 1])
def test_no_step_looks_for_unused_parameters_and_gradients_are_those_of_looking_in_each(folder, rank):
    found, expected = (read(folder / "2" / f"{name}, {rank}.pt") for name in ("story", "always searched"))
    assert not any(found["searched"])
    assert all(expected["searched"])
    frozen, trained = found["gradients"][0], found["gradients"][-1]
    assert {name for name in trained if name not in frozen} == {
        f"model.image_encoder.backbone.layer.{part}" for part in ("weight", "bias")
    }
    assert len(found["gradients"]) == len(expected["gradients"])
    for own, other in zip(found["gradients"], expected["gradients"], strict=True):
        assert own.keys() == other.keys()
        assert all(torch.equal(gradient, other[name]) for name, gradient in own.items())


@pytest.mark.parametrize("rank", [0, 1])
def test_a_phase_that_leaves_a_parameter_unused_looks_for_it(folder, rank):
    one, two = read(folder / "1" / "phased loss, 0.pt"), read(folder / "2" / f"phased loss, {rank}.pt")
    steps = len(two["searched"]) // 3
    assert two["searched"] == [False] * steps + [True] * 2 * steps
    assert ["loss.all_negatives.log_scale" in gradients for gradients in two["gradients"]] == [
        not searched for searched in two["searched"]
    ]
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-4, atol=0.0)
    for name, value in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rank", [0, 1])
def test_gradients_in_bfloat16_have_eight_bits(folder, rank):
    one, two = read(folder / "1" / "triplet all, None, 0.pt"), read(folder / "2" / f"bfloat16, {rank}.pt")
    found, expected = two["gradients"][0], one["gradients"][0]
    assert found.keys() == expected.keys()
    norm = float(torch.stack([gradient.norm() for gradient in expected.values()]).norm())
    for name, gradient in expected.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], found[name].bfloat16().float())
        torch.testing.assert_close(found[name], gradient, rtol=2.0**-7, atol=2.0**-8 * norm)


@pytest.mark.parametrize("rank", [0, 1])
def test_gradients_that_nccl_would_scatter_are_the_same(folder, rank):
    """The gather of embeddings sends gradients back in a way of its own with NCCL, run here over gloo."""
    one, two = read(folder / "1" / "triplet hardest, None, 0.pt"), read(folder / "2" / f"as with NCCL, {rank}.pt")
    assert len(two["gradients"]) == STEPS
    for found, expected in zip(two["gradients"], one["gradients"], strict=True):
        norm = float(torch.stack([gradient.norm() for gradient in expected.values()]).norm())
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-5 * norm)


def test_the_leaves_of_a_loss_are_found_that_require_a_gradient():
    used, unused, frozen = (torch.ones(2, requires_grad=grad) for grad in (True, True, False))
    loss = (used * frozen).sum() + (used.exp() * 2).sum()
    assert used_parameters(loss) == {used}
    assert used_parameters(loss + unused.sum()) == {used, unused}
    recomputed = checkpoint(lambda values: values * unused, used, use_reentrant=False)
    assert used_parameters(recomputed.sum()) == {used, unused}


# evaluation


@pytest.mark.parametrize(("story", "kinds"), [("story", 1), ("joint story", 2)])
def test_validation_gives_the_same_numbers(folder, story, kinds):
    one, two = (read(folder / str(processes) / f"{story}, 0.pt")["metrics"] for processes in (1, 2))
    names = [name for name in one if name.startswith("val/")]
    assert len(names) == 2 * kinds * 11  # of the trained weights and of their average, by each kind of similarity
    assert [float(two[name]) for name in names] == pytest.approx([float(one[name]) for name in names])


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("story", ["story", "joint story"])
def test_weights_are_the_same_after_frozen_ramped_and_hardest_epochs(folder, story, rank):
    one, two = read(folder / "1" / f"{story}, 0.pt"), read(folder / "2" / f"{story}, {rank}.pt")
    for kind in ("weights", "average"):
        for name, value in one[kind].items():
            torch.testing.assert_close(two[kind][name], value, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("rank", [0, 1])
def test_fine_tuning_with_adapters_is_the_same_and_looks_for_no_unused_parameters(folder, rank):
    one, two = read(folder / "1" / "fine-tuning, 0.pt"), read(folder / "2" / f"fine-tuning, {rank}.pt")
    assert not any(two["searched"])
    assert len(two["gradients"]) == len(one["gradients"])
    tower = "model.image_encoder.backbone"
    trains = [any(tower in parameter for parameter in gradients) for gradients in two["gradients"]]
    assert trains == [False] * (len(trains) // 3) + [True] * (2 * len(trains) // 3)
    for found, expected in zip(two["gradients"], one["gradients"], strict=True):
        assert found.keys() == expected.keys()
        assert all(".lora_" in parameter for parameter in found if "text_encoder.backbone." in parameter)
        norm = float(torch.stack([gradient.norm() for gradient in expected.values()]).norm())
        for parameter, gradient in expected.items():
            torch.testing.assert_close(found[parameter], gradient, rtol=1e-5, atol=1e-5 * norm)
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-4, atol=0.0)
    for parameter, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][parameter], weight, rtol=1e-5, atol=1e-5)
    names = [metric for metric in one["metrics"] if metric.startswith("val/")]
    assert len(names) == 3 * 11
    assert [float(two["metrics"][n]) for n in names] == pytest.approx([float(one["metrics"][n]) for n in names])


@pytest.mark.parametrize("rank", [0, 1])
def test_both_processes_take_the_micro_batch_that_fits_into_the_smaller_memory(folder, rank):
    assert read(folder / "2" / f"auto, {rank}.pt") == {"micro_batch": 2, "step": 3 * 2}


def test_processes_that_torchrun_started_share_a_runs_folder(folder):
    [run] = folder.glob("runs/*/*")
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    checkpoints = {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    pictures = {"pooling/epoch_00.png", "examples/epoch_00.png"}
    assert files == {"config.yaml", "metrics.json", "metrics.csv", "queries.npz"} | checkpoints | pictures
    output = (folder / "output.txt").read_text()
    assert output.count("test rsum: ") == output.count("\nepoch 0: ") == 1


def test_all_processes_end_after_the_step_in_which_one_was_asked_to(folder):
    first, second = (read(folder / "2" / f"preempted, {rank}.pt") for rank in (0, 1))
    assert first == {"code": 128 + signal.SIGTERM, "step": 2}
    assert second == {"code": 0, "step": 2}  # or Lightning would kill the first
    assert read(folder / "2" / "preempted.ckpt")["global_step"] == 2


def test_every_job_of_a_sweep_gets_its_processes(tmp_path, monkeypatch, capfd):
    overrides = [*tiny_root(tmp_path / "data"), "trainer=ddp", "trainer.devices=2", "trainer.max_epochs=1"]
    typed = ["vse-train", "-m", *overrides, f"hydra.sweep.dir={tmp_path}/sweep", "~callbacks.pooling_curves"]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setattr(sys, "argv", [*typed, "seed=0,1"])
    train.main()
    output = capfd.readouterr().out
    assert output.count("test rsum: ") == output.count("\nepoch 0: ") == 2
    results = [json.loads((tmp_path / "sweep" / f"seed-{n}" / "metrics.json").read_text()) for n in (0, 1)]
    configs = [(tmp_path / "sweep" / f"seed-{n}" / "config.yaml").read_text() for n in (0, 1)]
    assert ["seed: 0" in configs[0], "seed: 1" in configs[1]] == [True, True]
    assert [result["epochs"] for result in results] == [1, 1]
    train.main()  # finished before
    assert capfd.readouterr().out.count("finished before") == 2


# what tells a run from others


def test_the_time_tells_a_run_of_one_launch_from_others(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert run_id("now") == "now"


def test_the_step_of_slurms_job_tells_it(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    for name, value in {"SLURM_NTASKS": "8", "SLURM_JOB_ID": "123", "SLURM_STEP_ID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert run_id("now") == "slurm_123.0"


# shares


def test_shares_cover_every_item_once():
    for items in (1, 2, 7, 8):
        shares = [list(EvaluationShare(items, rank=rank, processes=3)) for rank in range(3)]
        assert sorted(row for share in shares for row in share) == list(range(items))

"""What a report reads of folders, and what it says of those that are none."""

import json

import numpy as np
import pytest

from vse_gpo.errors import VSEError
from vse_gpo.evaluation.query_files import QUERIES, Evaluated, write_queries
from vse_gpo.reporting.runs import Run, compare_settings, find_runs, read_runs
from vse_gpo.retrieval.ranks import Ranks
from vse_gpo.retrieval.recalls import recall_outcome

HISTORY = """epoch,lr-AdamW/heads,step,train/loss,val/rsum
,0.001,9,,
0,,9,12.5,
0,,9,,300.0
1,,19,6.25,
1,,19,,410.5
"""


@pytest.fixture
def training(tmp_path):
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "config.yaml").write_text(
        "name: shapes\nseed: 0\ndataset: {name: f8k, test_split: test}\n", encoding="utf-8"
    )
    (folder / "metrics.csv").write_text(HISTORY, encoding="utf-8")
    metrics = {"val/best_rsum": 410.5, "best_checkpoint": "best.ckpt", "test/all/i2t_r1": 50.0, "test/all/rsum": 400.0}
    metrics["test/ema/all/rsum"] = 420.0  # of averaged weights
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    return folder


def test_a_training(training):
    (run,) = read_runs(training)
    assert run.name == "shapes · first"
    assert run.best is None
    assert run.scores["all"].metrics == {"i2t_r1": 50.0, "rsum": 400.0}
    assert run.scores["ema/all"].metrics == {"rsum": 420.0}
    assert str(run.scores["all"].test_set) == "f8k · test"
    assert run.curves == {
        "training loss": [(9.0, 12.5), (19.0, 6.25)],
        "learning rate": [(9.0, 0.001)],
        "rSum on dev": [(9.0, 300.0), (19.0, 410.5)],
    }


def test_the_curves_of_a_run_in_parts_go_through_all_of_them(training):
    for number, step in enumerate((1, 9)):  # the second repeats a step
        part = f"epoch,lr-AdamW/heads,step,train/loss,val/rsum\n0,,{step},{number}.5,\n"
        (training / f"metrics.part{number}.csv").write_text(part, encoding="utf-8")
    (run,) = read_runs(training)
    assert run.curves["training loss"] == [(1.0, 0.5), (9.0, 12.5), (19.0, 6.25)]


def test_the_size_of_a_trainings_test_is_that_of_its_queries(training):
    ranks = Ranks(np.zeros(3, dtype=np.int64), np.zeros(6, dtype=np.int64))
    outcome = recall_outcome(ranks, np.arange(3).repeat(2))
    write_queries(training / QUERIES, Evaluated(images=3, image_ids=None, outcomes={"all": outcome}))
    (run,) = read_runs(training)
    assert str(run.scores["all"].test_set) == "f8k · test · 3 images, 6 captions"


def test_every_run_below_a_folder_is_found_and_the_others_are_named(training, tmp_path):
    found = {"all": {"variant": "", "metrics": {"rsum": 300.0}, "intervals": {}}}
    for name in ("b", "a"):
        (tmp_path / "evaluations" / name / "model").mkdir(parents=True)
        (tmp_path / "evaluations" / name / "metrics.json").write_text(json.dumps({"model": found}), encoding="utf-8")
    (training / "checkpoints").mkdir()
    (training / "checkpoints" / "metrics.json").write_text("{}", encoding="utf-8")  # belongs to the training
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("name: begun\n", encoding="utf-8")
    (tmp_path / "link").symlink_to(training)
    runs, left_out = find_runs(tmp_path)
    assert [run.name for run in runs] == ["a", "b", "shapes · first"]
    assert [line.partition(", it has")[0] for line in left_out] == [f"{tmp_path / 'begun'}: the run has not ended"]
    with pytest.raises(VSEError, match=r"begun: the run has not ended"):
        find_runs(tmp_path / "begun")
    with pytest.raises(VSEError, match=r"model: no run in it, no folder with a metrics\.json; expected"):
        find_runs(tmp_path / "evaluations" / "a" / "model")


def test_every_model_of_an_evaluation(tmp_path):
    found = {"all": {"variant": "", "metrics": {"rsum": 300.0}, "intervals": {"rsum": [290.0, 310.0]}}}
    test_set = {"dataset": "f30k", "split": "test", "images": 1000, "captions": 5000}
    found["f30k_1k"] = found["all"] | {"test_set": test_set}
    (tmp_path / "metrics.json").write_text(json.dumps({"a": found, "b": found}), encoding="utf-8")
    runs = read_runs(tmp_path)
    assert [run.name for run in runs] == [f"{tmp_path.name} · a", f"{tmp_path.name} · b"]
    assert runs[0].scores["all"].intervals == {"rsum": (290.0, 310.0)}
    assert str(runs[0].scores["all"].test_set) == "test set unknown"  # of an earlier version
    assert str(runs[0].scores["f30k_1k"].test_set) == "f30k · test · 1,000 images, 5,000 captions"
    assert runs[0].settings is None


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("metrics.json", None, "the run has not ended, it has no metrics"),
        ("metrics.json", "{", "damaged or no run"),
        ("metrics.json", "[1]", "damaged or no run"),
        ("config.yaml", "a: [", "damaged or no run"),
        ("config.yaml", "a: 1", "damaged or no run"),
        ("metrics.csv", "step,train/loss\n1,many\n", "damaged or no run"),
    ],
)
def test_damaged_files_are_named_in_one_line(training, file, text, message):
    if text is None:
        (training / file).unlink()
    else:
        (training / file).write_text(text, encoding="utf-8")
    with pytest.raises(VSEError, match=message) as error:
        read_runs(training)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(VSEError, match="no run, it has no metrics"):
        read_runs(tmp_path)


def test_settings_that_differ_and_those_shared(tmp_path):
    def run(**settings):
        return Run(name="", folder=tmp_path, settings=settings, curves={}, scores={}, best=None)

    differing, shared = compare_settings([run(seed=0, a={"b": 1}, only=True), run(seed=1, a={"b": 1})])
    assert differing == {"seed": ["0", "1"], "only": ["true", "–"]}
    assert shared == {"a.b": "1"}

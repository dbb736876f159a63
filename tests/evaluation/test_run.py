"""Whole evaluations, as a user starts them."""

import csv
import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from tests.golden import FOLDER
from tests.helpers.on_disk import write_features, write_texts
from tests.helpers.tiny_root import WORDS, tiny_root
from vse_gpo import VSE, evaluate
from vse_gpo.checkpoints.sources import load_model
from vse_gpo.cli.run import config_folder
from vse_gpo.data.files import read_listing
from vse_gpo.errors import VSEError
from vse_gpo.evaluate import arguments
from vse_gpo.evaluation.compare import compare_evaluations
from vse_gpo.evaluation.run import evaluate_sources, source_name
from vse_gpo.retrieval import image_caption_recalls


def run(home: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"vse_gpo.{module}", *arguments]
    return subprocess.run(
        command, cwd=home, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "100"}
    )


def start(home: Path, module: str, *arguments: str) -> None:
    """As the console script would, in this process, which has imported everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("COLUMNS", "100")
        patch.setattr(sys, "argv", [f"vse-{module}", *arguments])
        import_module(f"vse_gpo.{module}").main()


def inside(home: Path, folder: str, *overrides: str) -> dict[str, Any]:
    """Evaluate in this process: the metrics of every source."""
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose("evaluate", [*overrides, "accelerator=cpu"])
    evaluate_sources(**arguments(config, home / folder))
    metrics: dict[str, Any] = json.loads((home / folder / "metrics.json").read_text())
    return metrics


def compare(first: Path, second: Path) -> None:
    compare_evaluations(first=str(first), second=str(second), protocol=None, against=None, seed=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two short trainings of one small model, with their data beside them."""
    home = tmp_path_factory.mktemp("home")
    overrides = tiny_root(home / "data")
    for seed in (0, 1):
        start(home, "train", *overrides, f"seed={seed}", f"hydra.run.dir=run{seed}", "test=false")
    return home


JOINT = ("interaction=maxsim", "loss=joint", "seed=0")
DATA = ("dataset=f30k", "dataset.root=data", "workers=0", "accelerator=cpu", "protocols=[all]")


@pytest.fixture(scope="module")
def single(trained):
    """An evaluation of one checkpoint: its folder and what it printed."""
    arguments = ("checkpoint=run0/checkpoints/last.ckpt", *DATA, "save_embeddings=ours.npz", "hydra.run.dir=single")
    with redirect_stdout(io.StringIO()) as printed:
        start(trained, "evaluate", *arguments)
    return trained / "single", printed.getvalue()


def test_a_checkpoint_scores_what_its_embeddings_score(trained, single):
    folder, printed = single
    model = load_model(trained / "run0" / "checkpoints" / "last.ckpt")
    listing = read_listing(trained / "data", "test")
    source = model.prepare_images.opener("flickr30k-images")(trained / "data", listing)
    images = model.encode_images([source[row] for row in range(len(source))])
    captions = model.encode_captions(listing.captions)
    expected = image_caption_recalls(images, captions, listing.caption_to_image)
    found = json.loads((folder / "metrics.json").read_text())["run0"]["all"]
    assert found["metrics"] == pytest.approx(expected)
    low, high = found["intervals"]["rsum"]
    assert low <= found["metrics"]["rsum"] <= high
    assert "rSum" in printed
    assert f"{expected['rsum']:.1f}" in printed


def test_every_query_is_written_with_its_id_and_file(trained, single):
    listing = read_listing(trained / "data", "test")
    with (single[0] / "queries.csv").open() as file:
        lines = list(csv.DictReader(file))
    of_images = [line for line in lines if line["direction"] == "i2t"]
    assert [line["id"] for line in of_images] == listing.image_ids
    assert len(lines) == len(listing.image_ids) + len(listing.captions)
    assert all(int(line["rank"]) >= 1 for line in lines)
    assert {path.name for path in single[0].iterdir()} == {
        "metrics.json",
        "metrics.csv",
        "table.tex",
        "queries.csv",
        "queries.npz",
    }
    assert (single[0] / "table.tex").read_text().rstrip().endswith(r"\\")


def test_saved_embeddings_score_the_same(trained, single):
    again = inside(trained, "again", f"embeddings={trained / 'ours.npz'}", "protocols=[all]")
    ours = json.loads((trained / "single" / "metrics.json").read_text())
    assert again["ours"]["all"]["metrics"] == pytest.approx(ours["run0"]["all"]["metrics"])


@pytest.fixture(scope="module")
def banked(trained):
    """A split of other images, which a bank may take, beside the data."""
    draws = np.random.default_rng(1)
    write_texts(trained / "data", "other", {f"b{row}": [" ".join(draws.choice(WORDS, 4))] * 2 for row in range(8)})
    write_features(trained / "data", draws.standard_normal((8, 3, 4)).astype(np.float32), "other")
    return trained


CORRECTED = "protocols=[all,all+qbnorm,all+dbsn]"


def test_a_bank_from_a_split_a_file_or_python_corrects_alike(banked, single):
    data = ("dataset=f30k", f"dataset.root={banked / 'data'}", "workers=0")
    checkpoint = f"checkpoint={banked / 'run0' / 'checkpoints' / 'last.ckpt'}"
    by_split = inside(
        banked, "by_split", checkpoint, *data, CORRECTED, "bank=other", "bank_size=5", "clip_benchmark=true"
    )["run0"]
    plain = json.loads((banked / "single" / "metrics.json").read_text())["run0"]["all"]
    assert by_split["all"]["metrics"] == pytest.approx(plain["metrics"])
    assert by_split["all+qbnorm"]["variant"] == "bank of 5 images and 10 captions"
    assert (banked / "by_split" / "table.tex").read_text().count("+qbnorm") == 1
    names = {path.name.split("_")[0] for path in (banked / "by_split" / "clip_benchmark").iterdir()}
    assert names == {"all", "all+qbnorm", "all+dbsn"}

    bank, ours = banked / "bank.npz", banked / "ours.npz"
    inside(banked, "other", checkpoint, *data, "split=other", "protocols=[all]", f"save_embeddings={bank}")
    by_file = inside(banked, "by_file", f"embeddings={ours}", CORRECTED, f"bank={bank}", "bank_size=5")["ours"]
    with np.load(ours) as test, np.load(bank) as pairs:
        by_python = evaluate(**test, protocols=[*by_split], bank=dict(pairs), bank_size=5)
        again = evaluate(**test, protocols="all+qbnorm", bank=str(bank))
    for protocol, found in by_split.items():
        assert by_file[protocol]["metrics"] == by_python[protocol]
        assert found["metrics"] == pytest.approx(by_python[protocol])
    assert [*again] == ["all+qbnorm"]

    members = f"checkpoint=[{','.join(str(banked / f'run{seed}' / 'checkpoints' / 'last.ckpt') for seed in (0, 1))}]"
    both = inside(banked, "both_banks", members, *data, "protocols=[all+dbsn]", "bank=other")
    assert both["ensemble"]["all+dbsn"]["variant"] == "bank of 8 images and 16 captions"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("protocols=[all+qbnorm]",), r"protocol all\+qbnorm: a correction needs a bank of other pairs; set bank= to"),
        (("protocols=[all+none]", "bank=other"), "unknown correction none, expected qbnorm or dbsn"),
        (("protocols=[all]", "bank=other"), "bank=other: no protocol has a correction"),
        (
            ("protocols=[cxc_correlation+qbnorm]", "bank=other"),
            "not how alike two items are; leave out cxc_correlation",
        ),
        (
            ("protocols=[all+qbnorm]", "bank=train"),
            "the bank holds 6 images of the test set, first id 0; expected other",
        ),
        (("protocols=[all+qbnorm]", "bank=missing"), r"missing_caps\.txt: no such file"),
        (("protocols=[all+qbnorm]", "bank=missing.npz"), r"bank=missing\.npz: no such file"),
    ],
)
def test_a_correction_that_cannot_be_made_gives_one_line(banked, arguments, message):
    data = ("dataset=f30k", f"dataset.root={banked / 'data'}", "workers=0")
    with pytest.raises(VSEError, match=message) as error:
        inside(banked, "bad", f"checkpoint={banked / 'run0' / 'checkpoints' / 'last.ckpt'}", *data, *arguments)
    assert "\n" not in str(error.value)
    assert not (banked / "bad").exists()


def test_two_stages_stand_beside_each_other(trained, capsys):
    """Trained with both, evaluated by both: on all images the second stage is the whole interaction."""
    start(trained, "train", *tiny_root(trained / "data"), *JOINT, "hydra.run.dir=joint", "test=false")
    data = ("dataset=f30k", f"dataset.root={trained / 'data'}", "workers=0", "protocols=[all]")
    checkpoint = f"checkpoint={trained / 'joint' / 'checkpoints' / 'last.ckpt'}"
    images = len(read_listing(trained / "data", "test").image_ids)
    capsys.readouterr()
    found = inside(trained, "stages", checkpoint, *data, f"rerank={images}")["joint"]
    assert "ms a caption" in capsys.readouterr().out
    assert list(found) == ["all+embedding", f"all+rerank{images}"]
    whole = inside(trained, "whole", checkpoint, *data)["joint"]["all"]["metrics"]
    re_ordered = found[f"all+rerank{images}"]["metrics"]
    assert {name: re_ordered[name] for name in whole if name.startswith("t2i")} == {
        name: value for name, value in whole.items() if name.startswith("t2i")
    }
    assert re_ordered["t2i_ms"] > 0
    for refused, message in (
        (("rerank=99",), "rerank=99, but the gallery has"),
        (("save_embeddings=e.npz",), "save_embeddings: .*joint.* ranks by its interaction, not by embeddings"),
        (("protocols=[all+qbnorm]", "bank=train"), "bank: .*joint.* ranks by its interaction"),
        (("rerank=2", "bank=train"), "hubness is corrected for embeddings only"),
    ):
        with pytest.raises(VSEError, match=message):
            inside(trained, "refused", checkpoint, *data, *refused)
    assert not (trained / "refused").exists()


def test_two_processes_encode_what_one_does(trained, single):
    two = ("devices=2", "hydra.run.dir=two")
    done = run(trained, "evaluate", "checkpoint=run0/checkpoints/last.ckpt", *DATA, *two)
    assert done.returncode == 0, done.stderr
    ours, both = (json.loads((trained / name / "metrics.json").read_text()) for name in ("single", "two"))
    assert both["run0"]["all"]["metrics"] == ours["run0"]["all"]["metrics"]
    assert done.stdout.count("written to") == 1


def test_an_ensemble_stands_beside_its_members_and_can_be_compared(trained, capsys):
    checkpoints = ",".join(str(trained / f"run{seed}" / "checkpoints" / "last.ckpt") for seed in (0, 1))
    data = ("dataset=f30k", f"dataset.root={trained / 'data'}", "workers=0", "protocols=[all]")
    assert list(inside(trained, "both", f"checkpoint=[{checkpoints}]", *data)) == ["run0", "run1", "ensemble"]
    compare(trained / "both" / "run0", trained / "both" / "ensemble")
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("run0", "run1", "ensemble", "change", "rSum"))
    with pytest.raises(VSEError, match="no evaluation of one model"):
        compare(trained / "both", trained / "both" / "run0")


def test_members_of_another_test_set_are_refused(trained, single):
    with np.load(trained / "ours.npz") as saved:
        arrays = {name: saved[name] for name in saved.files}
    arrays["image_ids"] = arrays["image_ids"][::-1]
    np.savez(trained / "turned.npz", **arrays)
    members = f"embeddings=[{trained / 'ours.npz'},{trained / 'turned.npz'}]"
    with pytest.raises(VSEError, match="ours and turned have different image_ids"):
        inside(trained, "refused", members, "protocols=[all]")
    inside(trained, "turned", f"embeddings={trained / 'turned.npz'}", "protocols=[all]")
    with pytest.raises(VSEError, match="different images; evaluate both on one test set"):
        compare(trained / "single", trained / "turned")
    del arrays["image_ids"]
    np.savez(trained / "unknown.npz", **arrays)
    with pytest.raises(VSEError, match="ours and turned have different image_ids"):
        inside(trained, "refused", members.replace("[", f"[{trained / 'unknown.npz'},"), "protocols=[all]")


def test_an_evaluation_overwrites_no_training_and_no_other_embeddings(trained):
    for refused, message in (
        (("embeddings=ours.npz",), "holds a training, whose results would be lost"),
        (("checkpoint=[a.ckpt,b.ckpt]", "save_embeddings=e.npz"), "with 2 checkpoints, expected one"),
        (("checkpoint=a.ckpt", "save_embeddings=e.npy"), r"e\.npy: expected a file that ends in \.npz"),
    ):
        with pytest.raises(VSEError, match=message):
            inside(trained, "run0" if "training" in message else "refused", *refused)
    assert not (trained / "refused").exists()


def test_a_converted_model_encodes_alike(trained):
    start(trained, "convert", "run0/checkpoints/last.ckpt", "converted")
    captions = ["a dog on a beach", "two people"]
    before = load_model(trained / "run0" / "checkpoints" / "last.ckpt")
    assert torch.equal(
        VSE.from_pretrained(trained / "converted").encode_captions(captions), before.encode_captions(captions)
    )
    with pytest.raises(VSEError, match="is not empty"):
        before.save_pretrained(trained / "converted")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to evaluate"),
        (("checkpoint=none.ckpt",), r"none\.ckpt: no such file"),
        (("embeddings=none.npz",), r"none\.npz: no such file"),
        (("embeddings=ours.npz", "protocols=[coco]"), "unknown protocol coco"),
        (("embeddings=ours.npz", "protocols=[coco_1k_5fold]"), "coco_1k_5fold is defined on 5000 images"),
        (("embeddings=ours.npz", "protocols=[all]", "published=vse"), "published=vse: no such row"),
        (("embeddings=ours.npz", "protocols=[cxc]"), "protocol cxc needs annotations"),
        (("embeddings=ours.npz", "protocols=[pmrp]"), "protocol pmrp needs"),
        (("embeddings=ours.npz", "protocols=[eccv]"), "captions of"),
        (("checkpoint=run0/checkpoints/last.ckpt", "protocols=[coco]"), "unknown protocol coco"),
        (("checkpoint=missing_folder", "protocols=[all]"), "neither a folder nor"),
        (("checkpoint=run0/checkpoints/last.ckpt", *DATA, "rerank=2"), "rerank=2: run0.* has no interaction"),
        (("embeddings=ours.npz", "protocols=[all]", "rerank=2"), "rerank=2 with 1 sources, expected one checkpoint"),
    ],
)
def test_bad_input_gives_one_line(trained, single, arguments, message, monkeypatch):
    monkeypatch.chdir(trained)
    with pytest.raises(VSEError, match=message) as error:
        inside(trained, "bad", *arguments)
    assert "\n" not in str(error.value)
    assert not (trained / "bad").exists()


def test_an_error_ends_the_command_with_one_line_and_status_1(tmp_path):
    done = run(tmp_path, "evaluate", "embeddings=none.npz")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: none.npz: no such file\n"
    assert list(tmp_path.rglob("*.json")) == []


def test_crisscrossed_captions_in_the_released_form(tmp_path, capsys):
    with np.load(FOLDER / "cxc.npz") as golden:
        arrays = {name: golden[name] for name in ("image_embeddings", "caption_embeddings")}
        expected = golden["t2t"].tolist()
    ids = (FOLDER / "cxc_annots" / "testall_ids.txt").read_text().split()[::5]
    np.savez(tmp_path / "golden.npz", **arrays, caption_to_image=np.arange(40).repeat(5), image_ids=np.array(ids))
    found = inside(
        tmp_path,
        "out",
        f"embeddings={tmp_path / 'golden.npz'}",
        "protocols=[cxc]",
        f"cxc={FOLDER / 'cxc_annots'}",
    )["golden"]["cxc"]
    assert found["variant"] == "released annotations"
    assert [found["metrics"][f"t2t_r{k}"] for k in (1, 5, 10)] == pytest.approx(expected)
    assert "released annotations" in capsys.readouterr().out

    np.save(tmp_path / "matrix.npy", arrays["image_embeddings"] @ arrays["caption_embeddings"].T)
    both = inside(
        tmp_path,
        "both",
        f"embeddings=[{tmp_path / 'matrix.npy'},{tmp_path / 'golden.npz'}]",
        "protocols=[cxc]",
        f"cxc={FOLDER / 'cxc_annots'}",
    )
    assert both["golden"]["cxc"]["metrics"] == found["metrics"]
    assert both["matrix"]["cxc"]["metrics"]["i2t_r1"] == found["metrics"]["i2t_r1"]
    assert "t2t_r1" not in both["matrix"]["cxc"]["metrics"]
    assert "t→t" in capsys.readouterr().out  # a column, though the matrix has no captions with captions


def test_sources_are_named_after_their_run_or_file_and_told_apart():
    names: dict[str, None] = {}
    for path in ("runs/a/checkpoints/best.ckpt", "a.npz", "b/a.safetensors", "ensemble.npz", "account/model"):
        names[source_name(path, names)] = None
    assert list(names) == ["a", "a#2", "a#3", "ensemble#2", "model"]

"""Runs that start from the weights of another run, as a user starts them."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.tiny_root import tiny_root
from vse_gpo import VSE, train

FIXED = ["optimizer.lr=0", "trainer.max_epochs=1", "~callbacks.examples", "~callbacks.pooling_curves"]


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Callable[..., Path]:
    """Starts runs on one data set, each in a folder of its own; gives the folder."""
    home = tmp_path_factory.mktemp("home")
    data = tiny_root(home / "data")

    def started(name: str, *overrides: str) -> Path:
        before = sys.argv
        sys.argv = ["vse-train", *data, *overrides, f"hydra.run.dir={home / name}"]
        try:
            train.main()
        finally:
            sys.argv = before
        return home / name

    return started


@pytest.fixture(scope="module")
def first(start) -> Path:
    """A finished run."""
    return start("first", "trainer.max_epochs=1", "test=false")


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return saved


def parameters(saved: dict[str, Any]) -> dict[str, Tensor]:
    """What an optimizer moves: without BatchNorm's statistics."""
    return {name: value for name, value in saved["state_dict"].items() if "running" not in name and "num_" not in name}


@pytest.mark.parametrize("kind", ["run", "checkpoint", "saved folder"])
def test_a_run_starts_from_the_weights_alone(start, first, tmp_path, capsys, kind):
    best = first / "checkpoints" / "best.ckpt"
    VSE.from_pretrained(best).save_pretrained(tmp_path / "saved")
    source = {"run": first, "checkpoint": best, "saved folder": tmp_path / "saved"}[kind]
    here = start(f"from {kind}", f"init={source}", "seed=5", *FIXED)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"init={source}: starts from (\d+) of the model's \1 weights", lines[0])
    saved = checkpoint(here)
    assert (saved["epoch"], saved["global_step"]) == (0, 3)
    expected = parameters(checkpoint(first, "best"))
    assert all(torch.equal(value, expected[name]) for name, value in parameters(saved).items())
    assert saved["settings"]["init"] == str(source)


def test_another_vocabulary_is_refused_until_it_is_left_out(start, first, capsys):
    vocabulary = json.loads((first.parent / "data" / "vocabulary.json").read_text())
    vocabulary["word2idx"] |= {"boats": 11, "dogs": 12}
    (first.parent / "larger.json").write_text(json.dumps(vocabulary))
    other = [f"init={first}", f"text.vocabulary={first.parent / 'larger.json'}", *FIXED]
    with pytest.raises(SystemExit):
        start("other words", *other)
    output = capsys.readouterr()
    told = "text_encoder.backbone.embed (weight is 12×300, expected 14×300); set what its weights were trained with"
    remedy = "or leave these parts out: init_skip=[text_encoder.backbone.embed]"
    assert output.err == f"error: init={first} does not fit the model: {told}, {remedy}\n"
    assert output.out == ""
    here = start("other words", *other, "init_skip=text_encoder.backbone.embed")
    assert ", all but text_encoder.backbone.embed\n" in capsys.readouterr().out
    found, expected = parameters(checkpoint(here)), parameters(checkpoint(first, "best"))
    assert found.pop("model.text_encoder.backbone.embed.weight").shape == (14, 300)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["init={first}", "resume={last}"], r"init=\S+ and resume=\S+: a resumed run brings its weights; [^\n]+"),
        (
            ["init_skip=[image_encoder]"],
            r"init_skip=\[image_encoder\] leaves out parts of init, which is not set[^\n]+",
        ),
        (["init={first}/nothing.ckpt"], r"\S+nothing\.ckpt: no such file or directory, expected a checkpoint"),
        (["init={first}", "init_skip=[imag]"], r"init_skip=imag: no part of the model or of init[^\n]*"),
        (
            ["init={first}", "pooling@image_pooling=mean"],
            r"init=\S+ does not fit the model: image_encoder\.pooling [^\n]+",
        ),
    ],
)
def test_what_cannot_be_started_from_is_one_line_and_leaves_nothing(start, first, capsys, overrides, line):
    given = [one.format(first=first, last=first / "checkpoints" / "last.ckpt") for one in overrides]
    with pytest.raises(SystemExit):
        start("refused", *given)
    output = capsys.readouterr()
    assert re.fullmatch(f"error: {line}\n", output.err)
    assert (output.out, (first.parent / "refused").exists()) == ("", False)


def test_a_run_that_has_begun_resumes_and_does_not_start_again(start, first, capfd):
    overrides = [f"init={first}", "seed=5", "~callbacks.examples", "~callbacks.pooling_curves"]
    ask = "+callbacks.ask={_target_: tests.training.callbacks.test_preemption.Ask, step: 4}"
    with pytest.raises(SystemExit):
        start("interrupted", *overrides, ask)
    assert "starts from" in capfd.readouterr().out
    interrupted = start("interrupted", *overrides, ask)
    assert "starts from" not in capfd.readouterr().out
    whole = start("whole", *overrides)
    expected = checkpoint(whole)["state_dict"]
    assert all(torch.equal(value, expected[name]) for name, value in checkpoint(interrupted)["state_dict"].items())
    assert json.loads((interrupted / "metrics.json").read_text())["epochs"] == 2
    with pytest.raises(SystemExit):
        start("whole", "seed=5", "~callbacks.examples", "~callbacks.pooling_curves")
    assert "holds a run of another config, init=" in capfd.readouterr().err

"""Weights between two states: exact at both ends, number by number between them, and saved as a model."""

import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from torch import Tensor

from tests.helpers.small_checkpoint import write_checkpoint
from vse_gpo import VSE
from vse_gpo import convert as door
from vse_gpo.checkpoints.interpolation import interpolate, interpolated_weights
from vse_gpo.checkpoints.sources import load_model, saved_weights
from vse_gpo.errors import VSEError

START = {"w": torch.tensor([[1.0, 0.1], [3.0, -0.7]]), "bias": torch.tensor(0.3), "batches": torch.tensor(0)}
END = {"w": torch.tensor([[2.0, 0.4], [3.0, 1e8]]), "bias": torch.tensor(-1.1), "batches": torch.tensor(7)}


def test_both_ends_are_exact_and_a_plain_loop_gives_what_is_between():
    for alpha, expected in ((0, START), (1, END)):
        found = interpolated_weights(START, END, alpha)
        assert found.keys() == END.keys()
        assert all(torch.equal(found[name], expected[name]) for name in ("w", "bias"))
        assert found["batches"] == 7
    found = interpolated_weights(START, END, 0.3)
    for name in ("w", "bias"):
        pairs = zip(START[name].flatten().tolist(), END[name].flatten().tolist(), strict=True)
        assert found[name].flatten().tolist() == pytest.approx([0.7 * start + 0.3 * end for start, end in pairs])


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_a_share_is_between_0_and_1(alpha):
    with pytest.raises(VSEError, match=f"alpha={alpha}, expected 0, the start, to 1, the end"):
        interpolated_weights(START, END, alpha)


def test_weights_of_another_model_are_refused():
    with pytest.raises(VSEError, match="weights of another model: 1 of 3"):
        interpolated_weights(START | {"w": torch.zeros(1)}, END, 0.5)


@pytest.fixture
def two_states(tmp_path) -> tuple[Path, Path]:
    """Checkpoints of one model at its end and at its start."""
    end, start = (tmp_path / f"{name}.ckpt" for name in ("end", "start"))
    write_checkpoint(end)
    write_checkpoint(start)
    content = torch.load(start, weights_only=True)
    draws = torch.Generator().manual_seed(1)

    def other(weight: Tensor) -> Tensor:
        return torch.randn(weight.shape, generator=draws) if weight.is_floating_point() else weight

    content["state_dict"] = {name: other(weight) for name, weight in content["state_dict"].items()}
    torch.save(content, start)
    return end, start


def test_a_model_is_moved_back(two_states):
    end, start = two_states
    for alpha, whole in ((0.0, start), (1.0, end)):
        model = load_model(end)
        assert interpolate(model, start, alpha=alpha) is model
        expected = load_model(whole)
        captions = ["a red circle", "a heart"]
        assert torch.equal(model.encode_captions(captions), expected.encode_captions(captions))
    with pytest.raises(VSEError, match=r"^start=.*none\.ckpt: .*no such file"):
        interpolate(model, end.with_name("none.ckpt"), alpha=0.5)


def test_the_command_saves_it(two_states, tmp_path, monkeypatch, capsys):
    end, start = two_states
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics.json").write_text('{"test/all/rsum": 300.0}')

    def typed(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["vse-convert", str(end), "between", *arguments])
        door.main()

    for alone in (f"start={start}", "alpha=0.5"):
        with pytest.raises(SystemExit, match="1"):
            typed(alone)
        assert (
            capsys.readouterr().err
            == f"error: {alone}: weights are interpolated by start and alpha; set both, or neither\n"
        )
        assert not (tmp_path / "between").exists()
    typed(f"start={start}", "alpha=0.25")
    found = VSE.from_pretrained("between").state_dict()
    expected = interpolated_weights(saved_weights(start), saved_weights(end), 0.25)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert not ModelCard.load("between/README.md").data.eval_results

"""What a run needs beside its data set, from its settings."""

import pytest

from vse_gpo.data import needs
from vse_gpo.data.needs import model_needs

TIMM = {"pretrained": True, "weights": None, "name": "resnet18.a1_in1k"}


def parts(settings, part="backbone"):
    return {need.finding.part: need for need in model_needs({part: settings})}


def test_a_trunk_of_timm_comes_from_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(needs, "cached_model", lambda _: None)
    need = parts({"network": TIMM})["weights"]
    assert need.hub == need.finding.expected == "timm/resnet18.a1_in1k"
    assert need.finding.optional
    assert need.addresses[0].lines("")[1] == "  hf download timm/resnet18.a1_in1k"
    (tmp_path / "model.safetensors").write_bytes(b"x" * 2_000_000)
    monkeypatch.setattr(needs, "cached_model", lambda _: tmp_path)
    need = parts({"network": TIMM})["weights"]
    assert (need.finding.problem, need.finding.found) == (None, f"{tmp_path}, 2.0 MB")
    assert parts({"network": TIMM | {"name": "???"}})["weights"].finding.problem == "backbone.network.name is not set"
    assert parts({"network": TIMM | {"pretrained": False}}) == {}


def test_weights_of_torchvision_lie_where_pytorch_puts_them(monkeypatch, tmp_path):
    monkeypatch.setattr(needs.torch.hub, "get_dir", lambda: str(tmp_path))
    settings = {"network": {"depth": 152, "pretrained": True, "weights": None}}
    need = parts(settings)["weights"]
    assert need.file == tmp_path / "checkpoints" / "resnet152-394f9c45.pth"
    assert (need.addresses[0].sha256, need.finding.optional) == ("394f9c45", True)
    need.file.parent.mkdir()
    need.file.write_bytes(b"x")
    assert parts(settings)["weights"].finding.problem is None


def test_files_must_be_there(tmp_path):
    need = parts({"network": {"weights": "???"}})["weights"]
    assert need.finding.problem == "backbone.network.weights is not set"
    assert not need.finding.optional
    assert need.addresses[0].address == "https://github.com/woodfrog/vse_infty"
    need = parts({"vocabulary": str(tmp_path / "v")}, "text")["vocabulary"]
    assert need.finding.problem == f"text.vocabulary={tmp_path / 'v'}: no such file"
    (tmp_path / "v").write_bytes(b"x" * 1_500_000)
    assert parts({"vocabulary": str(tmp_path / "v")}, "text")["vocabulary"].finding.found == f"{tmp_path / 'v'}, 1.5 MB"


@pytest.mark.parametrize("name", ["org/model", "folder"])
def test_a_text_encoder_is_a_folder_or_a_model_of_the_hub(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(needs, "cached_model", lambda _: None)
    found = parts({"pretrained": name, "network": {"pretrained": "${local:${text.pretrained}}"}}, "text")
    assert found.keys() == {"text encoder"}
    assert (found["text encoder"].finding.problem is None) == (name == "folder")

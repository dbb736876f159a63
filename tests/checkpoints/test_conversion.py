"""Any model as a folder: complete, with a card of what it scored, or not there."""

import json
import sys

import pytest
import torch
from huggingface_hub import ModelCard

from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_settings import SETTINGS
from vse_gpo import VSE
from vse_gpo import convert as door
from vse_gpo.checkpoints.conversion import convert
from vse_gpo.checkpoints.sources import load_model
from vse_gpo.errors import VSEError
from vse_gpo.storage.settings import build
from vse_gpo.storage.trunk import keep_trunk

CAPTIONS = ["a red circle", "a heart"]
REST = {"tokenizer": None, "vocabulary": None, "trunk": None, "metrics": None}


@pytest.fixture
def checkpoint(tmp_path):
    path = write_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    scores = {"best_checkpoint": str(path), "test/all/rsum": 321.0}
    (tmp_path / "run" / "metrics.json").write_text(json.dumps(scores))
    return path


def rsum_of_card(folder):
    [result] = ModelCard.load(folder / "README.md").data.eval_results
    return result.metric_value


def test_a_checkpoint_becomes_a_folder_with_its_run_s_scores(checkpoint, tmp_path, capsys):
    convert(model=str(checkpoint), out=str(tmp_path / "small"), **REST)
    assert capsys.readouterr().out == f"written to {tmp_path / 'small'}\n"
    found, expected = VSE.from_pretrained(tmp_path / "small"), load_model(checkpoint)
    assert torch.equal(found.encode_captions(CAPTIONS), expected.encode_captions(CAPTIONS))
    assert rsum_of_card(tmp_path / "small") == 321.0


def test_other_scores_can_be_named(checkpoint, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"best_checkpoint": "b.ckpt", "test/all/rsum": 400.0}))
    convert(model=str(checkpoint), out=str(tmp_path / "small"), **REST | {"metrics": str(other)})
    assert rsum_of_card(tmp_path / "small") == 400.0


def test_an_existing_folder_is_kept(checkpoint, tmp_path):
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "mine").write_text("kept")
    with pytest.raises(VSEError, match="small: exists and is not empty, expected a new folder"):
        convert(model=str(checkpoint), out=str(tmp_path / "small"), **REST)
    assert [path.name for path in (tmp_path / "small").iterdir()] == ["mine"]


def test_a_model_of_features_gets_its_trunk(tmp_path):
    features = {"_target_": "vse_gpo.backbones.images.Regions", "width": 8}
    settings = SETTINGS | {
        "image_encoder": SETTINGS["image_encoder"] | {"backbone": features},
        "prepare_images": {"_target_": "vse_gpo.data.regions.PrepareRegions"},
    }
    checkpoint = write_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt", settings)
    trunk = {"network": SETTINGS["image_encoder"]["backbone"], "prepare": SETTINGS["prepare_images"]}
    keep_trunk(tmp_path / "trunk", build(trunk["network"]), trunk)
    convert(model=str(checkpoint), out=str(tmp_path / "whole"), **REST | {"trunk": str(tmp_path / "trunk")})
    image = torch.randint(256, (3, 40, 50), dtype=torch.uint8)
    assert VSE.from_pretrained(tmp_path / "whole").encode_images([image]).shape == (1, 6)


def test_the_command_takes_two_words(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vse-convert", str(checkpoint), "small"])
    door.main()
    assert capsys.readouterr().out == "written to small\n"
    monkeypatch.setattr(sys, "argv", ["vse-convert", "none.ckpt", "other"])
    with pytest.raises(SystemExit, match="1"):
        door.main()
    assert capsys.readouterr().err == "error: none.ckpt: no such file or directory, expected a checkpoint\n"
    assert not (tmp_path / "other").exists()

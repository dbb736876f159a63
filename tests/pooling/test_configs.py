"""Every shipped pooling config composes, builds from plain settings, and survives saving."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.pooling.test_family import FAMILY
from tests.storage.test_settings import SETTINGS
from vse_gpo import VSE
from vse_gpo.cli.run import config_folder
from vse_gpo.model import build_model
from vse_gpo.storage.settings import build

FOLDER = Path(config_folder()) / "pooling"
CHOICES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
KINDS = sorted(path.stem for path in FOLDER.glob("kind/*.yaml"))
WIDTH = 6  # of the embedding in SETTINGS


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose("train", [*overrides, f"embedding_width={WIDTH}"])
    return OmegaConf.to_container(config.pooling, resolve=True)


def test_every_kind_keeps_the_contract_and_can_be_chosen_for_both_modalities():
    assert set(FAMILY) == set(KINDS)
    assert set(KINDS) <= set(CHOICES)


@pytest.mark.parametrize("choice", CHOICES)
def test_a_pooling_composes_builds_and_survives_saving(choice, tmp_path):
    poolings = composed(f"pooling={choice}")
    if choice in KINDS:
        assert poolings["image"] == poolings["text"]
        assert type(build(poolings["image"])) is type(FAMILY[choice]())
    settings = copy.deepcopy(SETTINGS)
    settings["image_encoder"]["pooling"] = poolings["image"]
    settings["text_encoder"]["pooling"] = poolings["text"]
    model = build_model(settings, build(settings).state_dict())
    model.save_pretrained(tmp_path / "model")
    again = VSE.from_pretrained(tmp_path / "model")
    images = [torch.arange(3 * 32 * 32).reshape(3, 32, 32).to(torch.uint8)]
    captions = ["a red circle", "a large blue square above a star"]
    assert torch.equal(again.encode_images(images), model.encode_images(images))
    assert torch.equal(again.encode_captions(captions), model.encode_captions(captions))


def test_one_modality_can_have_a_pooling_of_its_own():
    alone = composed("pooling=mean", "pooling/kind@pooling.text=gcn_seq2seq")
    assert alone == {"image": {"_target_": "vse_gpo.pooling.Mean"}, "text": composed("pooling=vsrn")["image"]}

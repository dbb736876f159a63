"""Every shipped pooling config composes, builds from plain settings, and survives saving."""

import copy
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tests.helpers.small_settings import SETTINGS
from tests.pooling.test_family import FAMILY
from vse_gpo import VSE
from vse_gpo.cli.names import check_choices
from vse_gpo.cli.run import config_folder
from vse_gpo.errors import VSEError
from vse_gpo.model import build_model
from vse_gpo.storage.settings import build

FOLDER = Path(config_folder()) / "pooling"
CHOICES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
WIDTH = 6  # of the embedding in SETTINGS


def composed(*overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the image's pooling and of the caption's."""
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose("train", [f"embedding_width={WIDTH}", *overrides])
    assert config.pooling is None  # nothing else is set by it
    image, text = (OmegaConf.to_container(part, resolve=True) for part in (config.image_pooling, config.text_pooling))
    return image, text


def test_every_option_keeps_the_contract():
    assert set(FAMILY) == set(CHOICES)


@pytest.mark.parametrize("choice", CHOICES)
def test_a_pooling_composes_for_both_modalities_builds_and_survives_saving(choice, tmp_path):
    image, text = composed(f"pooling={choice}")
    assert image == text
    assert type(build(image)) is type(FAMILY[choice]())
    settings = copy.deepcopy(SETTINGS)
    settings["image_encoder"]["pooling"] = image
    settings["text_encoder"]["pooling"] = text
    model = build_model(settings, build(settings).state_dict())
    model.save_pretrained(tmp_path / "model")
    again = VSE.from_pretrained(tmp_path / "model")
    images = [torch.arange(3 * 32 * 32).reshape(3, 32, 32).to(torch.uint8)]
    captions = ["a red circle", "a large blue square above a star"]
    assert torch.equal(again.encode_images(images), model.encode_images(images))
    assert torch.equal(again.encode_captions(captions), model.encode_captions(captions))


@pytest.mark.parametrize(
    ("choice", "millions"), [("mean", 0.0), ("seq2seq", 6.3), ("gcn_mean", 4.2), ("gcn_seq2seq", 23.1)]
)
def test_the_poolings_of_table_1_have_the_published_sizes(choice, millions):
    pooling = build(composed(f"pooling={choice}", "embedding_width=1024")[0])
    assert round(sum(parameter.numel() for parameter in pooling.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize("choice", CHOICES)
def test_one_modality_can_have_a_pooling_of_its_own(choice):
    both, mean = composed(f"pooling={choice}")[0], {"_target_": "vse_gpo.pooling.Mean"}
    assert composed("pooling=mean", f"pooling@image_pooling={choice}") == (both, mean)
    assert composed(f"pooling@text_pooling={choice}", "pooling=mean") == (mean, both)


def test_a_value_is_set_for_one_modality():
    image, text = composed("pooling=kmax", "image_pooling.k=5")
    assert (image["k"], text["k"]) == (5, 2)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            ["pooling=max"],
            "pooling=max does not reach pooling@text_pooling, which the experiment sets to first; "
            "type pooling@text_pooling=max pooling@image_pooling=max",
        ),
        (["pooling=max", "pooling@image_pooling=mean"], "type pooling@text_pooling=max"),
        (["pooling=max", "pooling@image_pooling=mean", "pooling@text_pooling=max"], None),
        (["pooling@text_pooling=max"], None),
    ],
)
def test_a_pooling_for_both_that_the_experiment_would_hide_is_refused(typed, message):
    with initialize_config_dir(config_folder(), version_base="1.3"):
        overrides = ["experiment=coco_vsepp_butd_region", *typed]
        choices = compose("train", overrides, return_hydra_config=True).hydra.runtime.choices
    with nullcontext() if message is None else pytest.raises(VSEError, match=f"{re.escape(message)}$"):
        check_choices(choices, overrides)


def test_an_experiment_keeps_its_poolings_unless_told_otherwise():
    experiment = "experiment=coco_vsepp_butd_region"
    mean, first, gpo = ({"_target_": f"vse_gpo.pooling.{name}"} for name in ("Mean", "First", "GPO"))
    assert composed(experiment) == (mean, first)
    assert composed(experiment, "pooling@text_pooling=gpo") == (mean, gpo)

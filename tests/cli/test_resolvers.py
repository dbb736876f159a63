"""What configs ask for as they are composed: files that are there, numbers of words, and ids."""

import json
import re

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.helpers.tiny_root import tiny_root
from vse_gpo.cli.folders import config_folder
from vse_gpo.cli.messages import user_message
from vse_gpo.cli.resolvers import local, wandb_id


def test_the_number_of_words_is_read_from_the_vocabulary_and_must_fit_it(tmp_path):
    overrides = tiny_root(tmp_path)
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose("train", overrides)
        wrong = compose("train", [*overrides, "text.vocabulary_size=9"])
    settings = OmegaConf.to_container(config.text, resolve=True)
    assert settings["network"]["vocabulary_size"] == 12  # seven words, four special ones and <mask>
    assert instantiate(config.text.prepare).tokenizer.vocabulary_size == 12
    with pytest.raises(InstantiationException) as error:
        instantiate(wrong.text.prepare)
    assert "12 words with <mask>, the model knows 9" in user_message(error.value, "train")


def test_a_models_files_are_found_from_any_folder(tmp_path, monkeypatch):
    tiny_root(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(config_folder(), version_base="1.3"):
        overrides = ["experiment=f30k_butd_region_bigru", "dataset.root=data", "text.vocabulary=data/vocabulary.json"]
        words = compose("train", overrides).text.prepare.tokenizer
        pieces = compose("train", ["experiment=f30k_butd_region", "dataset.root=data"]).text.prepare.tokenizer
    assert (words.path, pieces.pretrained) == (str(tmp_path / "data" / "vocabulary.json"), "bert-base-uncased")


def test_a_place_that_is_here_is_given_whole_and_any_other_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "bert").mkdir()
    assert local("bert") == local("~/bert") == str(tmp_path / "bert")
    assert local("bert-base-uncased") == "bert-base-uncased"
    assert local("~/none") == "~/none"


def test_the_first_value_that_is_not_null_is_taken():
    config = OmegaConf.create({"a": None, "b": 0, "c": 1, "first": "${first:${a},${b},${c}}"})
    assert config.first == 0


def test_a_wandb_run_has_the_id_of_what_it_resumes_or_of_its_folder_or_a_new_one(tmp_path):
    settings = {"logger": {"wandb": {"id": "earlier"}}}
    torch.save({"settings": settings}, tmp_path / "last.ckpt")
    torch.save({"settings": {}}, tmp_path / "without.ckpt")
    assert wandb_id(str(tmp_path / "last.ckpt"), str(tmp_path)) == "earlier"
    new = [wandb_id(str(tmp_path / "without.ckpt"), "x"), wandb_id(None, "x"), wandb_id("no/such.ckpt", "x")]
    assert all(re.fullmatch("[0-9a-f]{8}", one) for one in new)
    assert len(set(new)) == 3
    (tmp_path / "config.yaml").write_text(json.dumps({"logger": {"wandb": {"id": "here"}}}))
    assert wandb_id(None, str(tmp_path)) == "here"


@pytest.mark.parametrize("name", ["run_id", "words_in", "local", "wandb_id", "first", "count"])
def test_every_function_is_known_once_configs_are_read(name):
    assert OmegaConf.has_resolver(name)

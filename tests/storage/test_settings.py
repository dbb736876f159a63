"""Settings by name, and models from settings that may come from anywhere."""

from importlib import import_module

import pytest
from torch import nn

from vse_gpo.errors import VSEError
from vse_gpo.storage.registry import DATA_PARTS, MODEL_PARTS
from vse_gpo.storage.settings import build, leaves, walk, without_weights


def test_parts_are_built_from_the_inside_out():
    built = build({"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3})
    assert isinstance(built, nn.Linear)
    assert build([{"a": 1}, None, "text"]) == [{"a": 1}, None, "text"]


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "vse_gpo.cli.run.run_command",
        "vse_gpo.data.files.os.system",
        "vse_gpo.data.files.read_lines",
        "vse_gpo.pooling.Nothing",
        "vse_gpo.model.upload",
        "vse_gpo.model.VSE.from_pretrained",
        "vse_gpo.backbones.texts.AutoModel",
        "torch.nn.modules.module.register_module_forward_hook",
        "torch.nn.Module.to",
        3,
        ["vse_gpo.pooling.GPO"],
    ],
)
def test_nothing_else_is_built(target):
    with pytest.raises(VSEError, match="not a part of a model, expected a registered one such as"):
        build({"_target_": target})


@pytest.mark.parametrize("name", sorted(MODEL_PARTS | DATA_PARTS))
def test_every_registered_part_is_there(name):
    module, _, attribute = name.rpartition(".")
    assert callable(getattr(import_module(module), attribute))


def test_data_sets_are_no_parts_of_models():
    with pytest.raises(VSEError, match="not a part of a model"):
        build({"_target_": "vse_gpo.data.split.DiskDataset", "root": "/", "open_images": None})
    shapes = {
        "_target_": "vse_gpo.data.shapes.ShapesDataset",
        "train": 1,
        "dev": 1,
        "test": 1,
        "size": 8,
        "captions": 1,
    }
    assert build(shapes | {"seed": 0}, parts=DATA_PARTS)


@pytest.mark.parametrize("name", ["path", "pretrained", "weights"])
def test_a_saved_model_names_no_file_outside_its_folder(name, tmp_path):
    settings = {"_target_": "vse_gpo.data.captions.TreebankVocabulary", name: "/etc/passwd"}
    with pytest.raises(VSEError, match=f"{name}=/etc/passwd is not inside {tmp_path}"):
        build(settings, tmp_path)


def test_arguments_that_do_not_fit_are_an_error_for_the_user():
    with pytest.raises(VSEError, match="another version of vse_gpo"):
        build({"_target_": "vse_gpo.pooling.GPO", "width": 3})


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname"])
def test_files_stay_inside_the_folder(name, tmp_path):
    with pytest.raises(VSEError, match="points outside"):
        build({"path": f"inside:{name}"}, tmp_path)
    assert build({"path": "inside:words.json"}, tmp_path) == {"path": str(tmp_path / "words.json")}


def test_an_architecture_fetches_nothing():
    settings = {
        "backbone": {"_target_": "x", "weights": "a.pth", "pretrained": True, "random_weights": False},
        "tokenizer": {"_target_": "y", "pretrained": "bert-base-uncased"},
    }
    assert without_weights(settings) == {
        "backbone": {"_target_": "x", "weights": None, "pretrained": False, "random_weights": True},
        "tokenizer": {"_target_": "y", "pretrained": "bert-base-uncased"},
    }


def test_leaves_name_every_value_once():
    assert dict(leaves({"a": {"b": 1, "c": {"d": [2]}}, "e": {}})) == {"a.b": 1, "a.c.d": [2], "e": {}}


def test_a_walk_names_groups_too():
    assert [name for name, _ in walk({"a": {"b": 1, "c": {"d": [2]}}, "e": {}})] == ["a", "a.b", "a.c", "a.c.d", "e"]

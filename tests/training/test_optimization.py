import math
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import timm.optim
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn
from transformers import get_cosine_schedule_with_warmup

from tests.helpers.tiny import preparations, tiny_data, tiny_module, tiny_optimization, tiny_trainer, weights
from tests.helpers.tiny_encoders import FAMILIES
from vse_gpo.backbones.backbone import Backbone
from vse_gpo.backbones.bigru import BiGRU
from vse_gpo.backbones.images import Regions
from vse_gpo.backbones.texts import bert_of
from vse_gpo.backbones.timm_trunks import timm_grid
from vse_gpo.cli.run import config_folder
from vse_gpo.encoder import Encoder
from vse_gpo.errors import VSEError
from vse_gpo.losses import InfoNCE, TripletLoss
from vse_gpo.model import VSE
from vse_gpo.pooling import GPO, Mean
from vse_gpo.training.optimization import Groups, steps_of_run

OPTIONS = sorted(path.stem for path in (Path(config_folder()) / "optimizer").glob("*.yaml"))


class Layer(Backbone):
    """A backbone of one linear layer."""

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(in_features, 4)


def model(image_backbone: Backbone, text_backbone: Backbone | None = None) -> VSE:
    text_backbone = Layer(3) if text_backbone is None else text_backbone
    return VSE(
        image_encoder=Encoder(backbone=image_backbone, projection=nn.Linear(4, 4), pooling=GPO()),
        text_encoder=Encoder(backbone=text_backbone, projection=nn.Identity(), pooling=Mean()),
        **preparations(),
    )


def groups_of(vse: VSE, **settings: float) -> Groups:
    return tiny_optimization(**settings).groups(vse, TripletLoss())


def test_backbones_train_at_their_share_and_everything_is_in_one_group():
    vse = model(Layer(2))
    groups = groups_of(vse, lr=1.0, image_backbone_scale=0.01, text_backbone_scale=0.1)
    assert {group["name"]: group["lr"] for group in groups} == {
        "heads": 1.0,
        "image_backbone": pytest.approx(0.01),
        "text_backbone": pytest.approx(0.1),
    }
    assert set(groups[1]["params"]) == set(vse.image_encoder.backbone.parameters())
    everything = [parameter for group in groups for parameter in group["params"]]
    assert len(everything) == len(set(everything))
    assert set(everything) == set(vse.parameters())


def test_frozen_parameters_stay_in_their_group():
    vse = model(Layer(2))
    vse.image_encoder.backbone.requires_grad_(False)
    groups = groups_of(vse, lr=1.0, image_backbone_scale=0.01, text_backbone_scale=0.1)
    assert len(groups[1]["params"]) == 2


def test_a_backbone_without_parameters_has_no_group():
    groups = groups_of(model(Regions(4)), lr=1.0, image_backbone_scale=1.0, text_backbone_scale=1.0)
    assert [group["name"] for group in groups] == ["heads", "text_backbone"]
    torch.optim.AdamW(groups)


# every shipped optimizer


def shipped(*overrides: str) -> DictConfig:
    with initialize_config_dir(config_folder(), version_base="1.3"):
        return compose("train", ["~experiment", *overrides]).optimizer


def step(optimizer_of, scales: dict[str, float]) -> tuple[dict[str, float], list[float]]:
    """How far the biases of each group went in one step, at most, and the loss before and after."""
    module = tiny_module(dropout=0.0, drop_regions=0.0)
    groups = groups_of(module.model, lr=1e-3, **scales)
    optimizer = optimizer_of(groups, lr=1e-3)
    biases = {group["name"]: [one for one in group["params"] if one.ndim == 1] for group in groups}
    before = {name: torch.cat([one.detach().clone() for one in group]) for name, group in biases.items()}
    batch = next(iter(tiny_data(batch_size=21, captions=module.model.prepare_captions).train_dataloader()))
    losses = []
    for _ in range(2):
        images, captions = module.model(batch)
        loss = TripletLoss()(images @ captions.T, hardest=False)
        losses.append(loss.item())
        if len(losses) == 1:
            loss.backward()
            optimizer.step()
    ways = {name: (torch.cat(group) - before[name]).abs().max().item() for name, group in biases.items()}
    return ways, losses


@pytest.mark.parametrize("option", [option for option in OPTIONS if option != "sgd"])
def test_a_step_lowers_the_loss_and_every_group_goes_as_far_as_its_learning_rate(option):
    """Adam's first step moves a bias by its learning rate, whatever the gradient."""
    build = instantiate(shipped(f"optimizer={option}").build)
    ways, (before, after) = step(build, {"image_backbone_scale": 0.1, "text_backbone_scale": 0.5})
    assert after < before
    assert ways == {
        "heads": pytest.approx(1e-3, rel=1e-2),
        "image_backbone": pytest.approx(1e-4, rel=1e-2),
        "text_backbone": pytest.approx(5e-4, rel=1e-2),
    }
    ways, _ = step(build, {"image_backbone_scale": 0.0, "text_backbone_scale": 0.5})
    assert ways["image_backbone"] == 0.0


@pytest.mark.parametrize(
    ("overrides", "momentum", "nesterov"),
    [([], 0.9, True), (["optimizer.build.momentum=0.5", "optimizer.build.nesterov=false"], 0.5, False)],
)
def test_sgd_equals_a_plain_loop(overrides, momentum, nesterov):
    """Sutskever et al. 2013 as torch has it; the learning rate of a group outside the velocity."""
    settings = shipped("optimizer=sgd", *overrides)
    start, gradients = torch.tensor([1.0, -2.0]), torch.tensor([[0.5, 1.0], [-1.0, 0.25], [2.0, 0.0]])
    groups = [{"params": [nn.Parameter(start.clone())], "lr": lr} for lr in (0.1, 0.01)]
    optimizer = instantiate(settings.build)(groups, lr=0.1)
    expected = [start.clone(), start.clone()]
    velocities = [torch.zeros(2), torch.zeros(2)]
    for gradient in gradients:
        for place, group in enumerate(optimizer.param_groups):
            group["params"][0].grad = gradient.clone()
            decayed = gradient + 1e-4 * expected[place]
            velocities[place] = momentum * velocities[place] + decayed
            step_of = decayed + momentum * velocities[place] if nesterov else velocities[place]
            expected[place] = expected[place] - group["lr"] * step_of
        optimizer.step()
    for group, value in zip(optimizer.param_groups, expected, strict=True):
        torch.testing.assert_close(group["params"][0].detach(), value)


def test_sgd_lowers_the_loss_on_any_schedule():
    for overrides in (["optimizer=sgd"], ["optimizer=adamw_cosine", "optimizer/build=sgd"]):
        build = instantiate(shipped(*overrides).build)
        ways, (before, after) = step(build, {"image_backbone_scale": 0.0, "text_backbone_scale": 0.5})
        assert after < before
        assert ways["image_backbone"] == 0.0
    assert shipped("optimizer=sgd").schedule == shipped("optimizer=adamw").schedule


def test_adamp_replaces_adamw_on_any_schedule():
    build = instantiate(shipped("optimizer=adamw_cosine", "optimizer/build=adamp").build)
    assert build.func.__name__ == "AdamP"
    assert shipped("optimizer=adamp").schedule == shipped("optimizer=adamw").schedule


def test_weights_decay_and_a_temperature_does_not():
    loss = InfoNCE(temperature=0.1)
    module = tiny_module(
        loss=loss, optimization=tiny_optimization(optimizer=partial(torch.optim.AdamW, weight_decay=0.5))
    )
    before = weights(module)
    optimizer = module.configure_optimizers()["optimizer"]
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert loss.log_scale.item() == pytest.approx(math.log(10), rel=1e-7)
    projection = "image_encoder.projection.weight"
    torch.testing.assert_close(weights(module)[projection], before[projection] * (1 - 1e-2 * 0.5))


@pytest.mark.parametrize("kind", ["foreach", "fused"])
def test_adamw_steps_alike_in_every_form(kind, tmp_path):
    trained = []
    for value in ("false", "true"):
        optimizer = instantiate(shipped(f"optimizer.build.{kind}={value}").build)
        module = tiny_module(optimization=tiny_optimization(optimizer=optimizer))
        tiny_trainer(tmp_path, max_epochs=1, callbacks=[], enable_checkpointing=False).fit(
            module, datamodule=tiny_data()
        )
        trained.append(weights(module))
    for name, value in trained[0].items():
        torch.testing.assert_close(trained[1][name], value, rtol=1e-4, atol=1e-6)


# schedules


class LearningRates(pl.Callback):
    """Of the heads, at every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: object, optimizer: torch.optim.Optimizer) -> None:
        self.values.append(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"limit_train_batches": 4},
        {"limit_train_batches": 0.5},
        {"accumulate_grad_batches": 4},
        {"max_steps": 7},
        {"max_epochs": -1, "max_steps": 7},
    ],
    ids=str,
)
def test_a_schedule_over_steps_ends_with_the_run(limits, tmp_path):
    rates = LearningRates()
    schedule = partial(get_cosine_schedule_with_warmup, num_warmup_steps=2)
    module = tiny_module(optimization=tiny_optimization(schedule=schedule, interval="step"))
    trainer = tiny_trainer(tmp_path, callbacks=[rates], enable_checkpointing=False, **limits)
    trainer.fit(module, datamodule=tiny_data())
    steps = trainer.global_step
    assert len(rates.values) == steps > 3
    expected = [0.0, 0.5, *((1 + math.cos(math.pi * (step - 2) / (steps - 2))) / 2 for step in range(2, steps))]
    assert rates.values == pytest.approx([1e-2 * share for share in expected])


def test_a_schedule_over_epochs_knows_its_milestones(tmp_path):
    rates = LearningRates()
    schedule = instantiate(shipped("optimizer.schedule.milestones=[2]").schedule)
    module = tiny_module(optimization=tiny_optimization(schedule=schedule))
    tiny_trainer(tmp_path, callbacks=[rates], enable_checkpointing=False).fit(module, datamodule=tiny_data())
    assert rates.values == pytest.approx([1e-2] * 12 + [1e-3] * 6)


def test_a_run_without_an_end_has_no_schedule_over_steps():
    with pytest.raises(VSEError, match=r"set trainer\.max_epochs"):
        steps_of_run(batches=5, limit=1.0, accumulated=1, max_epochs=-1, max_steps=-1)


# layer decay


def rates(vse: VSE, **settings: float) -> dict[str, float]:
    """The learning rate of every parameter, each in one group."""
    groups = groups_of(vse, **settings)
    names = {parameter: name for name, parameter in vse.named_parameters()}
    found = [(names[parameter], group["lr"]) for group in groups for parameter in group["params"]]
    assert len(found) == len(dict(found)) == len(names)
    assert len({group["name"] for group in groups}) == len(groups)
    return dict(found)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_a_trunks_layers_decay_as_timm_decays_them_once_more_below_the_heads(name):
    trunk = timm_grid(name, pretrained=False)
    vse = model(trunk, BiGRU(vocabulary_size=5, width=4))
    found = rates(vse, lr=2.0, image_backbone_scale=0.5, text_backbone_scale=1.0, layer_decay=0.7)
    names = {parameter: name for name, parameter in trunk.trunk.named_parameters()}
    for group in timm.optim.param_groups_layer_decay(trunk.trunk, layer_decay=0.7):
        for parameter in group["params"]:
            expected = 2.0 * 0.5 * group["lr_scale"] * 0.7
            assert found[f"image_encoder.backbone.trunk.{names[parameter]}"] == pytest.approx(expected)


def test_a_text_encoders_layers_decay_from_the_top():
    vse = model(Regions(4), bert_of(FAMILIES["bert"].to_dict()))
    found = rates(vse, lr=1.0, image_backbone_scale=1.0, text_backbone_scale=0.1, layer_decay=0.5)
    network = "text_encoder.backbone.network."
    for name, rate in found.items():
        expected = 1.0
        for depth, part in enumerate(("encoder.layer.1.", "encoder.layer.0.", "embeddings."), start=1):
            if name.startswith(network + part):
                expected = 0.1 * 0.5**depth
        assert rate == pytest.approx(expected), name
    assert sum(rate < 1 for rate in found.values()) == len(list(vse.text_encoder.backbone.parameters()))


def test_word_vectors_learn_slower_than_the_gru_over_them():
    vse = model(Regions(4), BiGRU(vocabulary_size=5, width=4))
    found = rates(vse, lr=1.0, image_backbone_scale=1.0, text_backbone_scale=1.0, layer_decay=0.5)
    assert found["text_encoder.backbone.embed.weight"] == 0.25
    assert found["text_encoder.backbone.rnn.weight_hh_l0"] == 0.5


def test_a_decay_of_one_changes_nothing():
    vse = model(timm_grid("test_vit", pretrained=False), BiGRU(vocabulary_size=5, width=4))
    settings = {"lr": 1.0, "image_backbone_scale": 0.01, "text_backbone_scale": 0.1}
    groups = groups_of(vse, **settings, layer_decay=1.0)
    assert [group["name"] for group in groups] == ["heads", "image_backbone", "text_backbone"]
    assert rates(vse, **settings) == rates(vse, **settings, layer_decay=1.0)


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.5])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(VSEError, match="more than 0 and at most 1"):
        tiny_optimization(layer_decay=decay)

from functools import partial
from itertools import product

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn
from torch.optim.lr_scheduler import ConstantLR
from torch.utils.data import DataLoader
from transformers import BertConfig, BertModel

from tests.golden import assert_close, load, under
from tests.helpers.tiny import preparations, tiny_data, tiny_module, tiny_optimization, tiny_trainer, weights
from vse_gpo.backbones.images import Regions
from vse_gpo.backbones.texts import Bert
from vse_gpo.batch import Batch, Features, Tokens
from vse_gpo.checkpoints.released import bert_names, region_names
from vse_gpo.encoder import Encoder, ResidualProjection
from vse_gpo.errors import VSEError
from vse_gpo.losses import TripletLoss
from vse_gpo.model import VSE
from vse_gpo.pooling import GPO
from vse_gpo.training.module import RetrievalModule, step_seed
from vse_gpo.training.optimization import Optimization
from vse_gpo.training.phases import Phases

GOLDEN_BERT = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def golden_model() -> VSE:
    text = Bert(BertModel(BertConfig(**GOLDEN_BERT), add_pooling_layer=False))
    return VSE(
        image_encoder=Encoder(backbone=Regions(20), projection=ResidualProjection(20, 16), pooling=GPO()),
        text_encoder=Encoder(backbone=text, projection=nn.Linear(32, 16), pooling=GPO()),
        **preparations(),
    )


def build_module(model: VSE, phases: Phases, **changes) -> RetrievalModule:
    settings = {
        "loss": TripletLoss(margin=0.2),
        "optimization": Optimization(
            optimizer=partial(torch.optim.AdamW, weight_decay=1e-4),
            schedule=partial(ConstantLR, factor=1.0),
            interval="epoch",
            lr=5e-4,
            image_backbone_scale=1.0,
            text_backbone_scale=0.1,
        ),
        "mask_same_image": False,
        "test_protocols": ["all"],
        "seed": 0,
        "settings": {},
    }
    return RetrievalModule(model=model, phases=phases, **(settings | changes))


def golden_batch(golden: dict[str, torch.Tensor], i: int) -> Batch:
    values = under(golden, f"batch{i}/")
    index = torch.arange(len(values["lengths"]))
    return Batch(
        Features(values["regions"], values["lengths"]),
        Tokens(values["token_ids"], values["token_lengths"]),
        index,
        index,
    )


class ThreeBatchesAnEpoch(pl.LightningDataModule):
    def __init__(self, golden: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.golden = golden

    def train_dataloader(self) -> DataLoader[Batch]:
        first = 3 * self.trainer.current_epoch
        return DataLoader([golden_batch(self.golden, i) for i in range(first, first + 3)], batch_size=None)

    def val_dataloader(self) -> list[Batch]:
        return []


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.values.append(outputs["loss"].item())


def quiet_trainer(**changes) -> pl.Trainer:
    settings = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_val_batches": 0,
        "gradient_clip_val": 2.0,
        "use_distributed_sampler": False,
    }
    return pl.Trainer(**(settings | changes))


def test_training_follows_the_released_program_loss_by_loss():
    golden = load("training_trajectory")
    model = golden_model()
    model.image_encoder.load_state_dict(region_names(under(golden, "w/image/")))
    model.text_encoder.load_state_dict(bert_names(under(golden, "w/text/")))
    story = [{"from_epoch": 0, "negatives": "all"}, {"from_epoch": 1, "negatives": "hardest"}]
    losses = Losses()
    trainer = quiet_trainer(max_epochs=2, callbacks=[losses], reload_dataloaders_every_n_epochs=1)

    trainer.fit(build_module(model, Phases(story)), datamodule=ThreeBatchesAnEpoch(golden))

    assert losses.values == pytest.approx(golden["losses"].tolist(), rel=1e-4)
    for encoder, names, part in (
        (model.image_encoder, region_names, "image"),
        (model.text_encoder, bert_names, "text"),
    ):
        for name, value in names(under(golden, f"end/{part}/")).items():
            if name.endswith(("mlp.0.bias", "key.bias")):
                continue  # BatchNorm and softmax undo these biases: Adam follows the sign of rounding errors
            assert_close(encoder.get_parameter(name).detach(), value, tolerance=1e-4)


def test_a_loaded_model_is_trained_with_its_dropout(tmp_path):
    """Models are loaded in eval mode."""
    module = tiny_module()
    module.model.eval()
    tiny_trainer(tmp_path, max_epochs=1).fit(module, datamodule=tiny_data())
    expected = tiny_module()
    tiny_trainer(tmp_path, max_epochs=1).fit(expected, datamodule=tiny_data())
    assert module.model.training
    assert all(torch.equal(value, weights(expected)[name]) for name, value in weights(module).items())


def test_the_losss_products_are_float32_whatever_a_run_allows():
    losses = []

    class Watched(TripletLoss):
        def forward(self, similarity, hardest=True, not_negative=None):
            losses.append(similarity.grad_fn.name())
            return super().forward(similarity, hardest, not_negative)

    quiet_trainer(max_epochs=1).fit(tiny_module(loss=Watched()), datamodule=tiny_data())
    assert set(losses) == {"_FullProductBackward"}  # which test_precision.py tests


def test_every_step_and_process_has_a_seed_of_its_own():
    numbers = product(range(3), range(20), range(4), range(2))
    assert len({step_seed(*of_batch) for of_batch in numbers}) == 3 * 20 * 4 * 2
    assert step_seed(1, 2, 3) == step_seed(1, 2, 3, 0)


def test_accumulated_batches_draw_numbers_of_their_own():
    module, drawn = tiny_module(), []
    module.model.image_encoder.backbone.register_forward_pre_hook(lambda *_: drawn.append(torch.rand(()).item()))
    quiet_trainer(max_epochs=1, accumulate_grad_batches=2).fit(module, datamodule=tiny_data())
    assert len(set(drawn)) == len(drawn) > 2


@pytest.mark.parametrize(("precision", "size", "tolerance"), [("32-true", 3, 1e-5), ("bf16-mixed", 2, 0.01)])
def test_training_in_micro_batches_is_training(tmp_path, precision, size, tolerance):
    """Frozen, ramped and hardest epochs, gradients clipped; an epoch's last batch holds a single pair.

    In half precision most sizes and seeds differ by 0.001; with some, rounding decides which negative is the hardest.
    """
    ends = []
    for micro_batch in (None, size):
        module = tiny_module(dropout=0.0, drop_regions=0.0, micro_batch=micro_batch)
        losses = Losses()
        trainer = quiet_trainer(max_epochs=3, callbacks=[losses], precision=precision)
        trainer.fit(module, datamodule=tiny_data())
        assert trainer.global_step == 18
        ends.append((torch.tensor(losses.values), weights(module)))
    (one, one_weights), (other, other_weights) = ends
    torch.testing.assert_close(other, one, rtol=tolerance, atol=tolerance)
    if precision == "32-true":  # in half precision rounding decides where Adam goes with a gradient near zero
        for name, value in one_weights.items():
            torch.testing.assert_close(other_weights[name], value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-5), ("bf16-mixed", 0.02)])
@pytest.mark.parametrize("algorithm", [None, "value"])
def test_a_fused_optimizer_follows_the_plain_one_with_clipped_gradients(precision, tolerance, algorithm):
    ends = []
    for fused in (False, True):
        optimization = tiny_optimization(optimizer=partial(torch.optim.AdamW, fused=fused))
        module = tiny_module(dropout=0.0, drop_regions=0.0, optimization=optimization)
        losses = Losses()
        clipping = {"gradient_clip_val": 0.01, "gradient_clip_algorithm": algorithm}
        quiet_trainer(max_epochs=2, callbacks=[losses], precision=precision, **clipping).fit(
            module, datamodule=tiny_data()
        )
        ends.append(torch.tensor(losses.values))
    torch.testing.assert_close(ends[1], ends[0], rtol=tolerance, atol=tolerance)


def test_gradients_that_the_optimizer_would_unscale_after_they_are_clipped_are_refused():
    module = tiny_module(optimization=tiny_optimization(optimizer=partial(torch.optim.AdamW, fused=True)))
    trainer = quiet_trainer(max_epochs=1)
    trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cpu")
    with pytest.raises(VSEError, match=r"16-mixed with a fused optimizer: .* set trainer\.precision=bf16-mixed or"):
        trainer.fit(module, datamodule=tiny_data())


def test_a_micro_batch_of_no_pairs_is_refused():
    with pytest.raises(VSEError, match="micro_batch=0, expected at least 1 pair"):
        tiny_module(micro_batch=0)


def test_weights_in_half_precision_are_refused():
    with pytest.raises(VSEError, match=r"precision=bf16-true, expected one of 32-true, bf16-mixed"):
        quiet_trainer(max_epochs=1, precision="bf16-true").fit(tiny_module(), datamodule=tiny_data())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"optimizer": partial(torch.optim.AdamW, weight_decay=-1.0)}, "optimizer: Invalid weight_decay"),
        ({"optimizer": partial(torch.optim.NAdam, fused=True)}, "optimizer: .*unexpected keyword argument 'fused'"),
        ({"schedule": partial(ConstantLR, factor=2.0)}, "optimizer: Constant multiplicative factor expected"),
    ],
)
def test_settings_that_an_optimizer_refuses_are_told_in_one_line(changes, line):
    module = tiny_module(optimization=tiny_optimization(**changes))
    with pytest.raises(VSEError, match=line):
        quiet_trainer(max_epochs=1).fit(module, datamodule=tiny_data())


def test_a_checkpoint_of_other_groups_of_parameters_is_refused():
    module = tiny_module()
    module.on_load_checkpoint({"state_dict": module.state_dict()})
    groups = [{"name": "heads", "params": [0, 1]}, {"name": "text_backbone_0", "params": [2]}]
    checkpoint = {"state_dict": module.state_dict(), "optimizer_states": [{"param_groups": groups}]}
    line = r"2 groups of parameters \(heads, text_backbone_0\), expected 3 \(heads, image_backbone, text_backbone\)"
    with pytest.raises(VSEError, match=line):
        module.on_load_checkpoint(checkpoint)

"""Exported encoders: the same embeddings for every batch size and set size, and nothing written otherwise."""

import json
from pathlib import Path

import jaxtyping
import numpy as np
import onnxruntime
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tests.helpers.dual_training import dual_data, dual_module
from tests.helpers.tiny import save_last, tiny_trainer
from tests.helpers.tiny_duals import dual_folder, photographs
from tests.helpers.tiny_encoders import FAMILIES, clip_folder
from tests.pooling.test_family import FAMILY, WIDTH, trained
from vse_gpo.backbones.bigru import BiGRU
from vse_gpo.backbones.clip import clip_images, clip_texts
from vse_gpo.backbones.texts import bert_of
from vse_gpo.backbones.timm_trunks import timm_grid
from vse_gpo.batch import Tokens, valid_items
from vse_gpo.checkpoints import export as towers
from vse_gpo.checkpoints.export import check, export_towers, trace, write_onnx, write_torch
from vse_gpo.checkpoints.towers import Tower, _lengths
from vse_gpo.cli.run import config_folder
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE
from vse_gpo.training.phases import Phases

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch.export and onnxscript, among themselves
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]


@pytest.fixture(scope="module", autouse=True)
def traced_sizes_are_no_integers():
    """Checks of types would refuse the symbols that stand for sizes while a graph is traced."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class EveryPooling(torch.nn.Module):
    """What each pooling of the family makes of the same sets, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.poolings = torch.nn.ModuleList(trained(name) for name in FAMILY)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return torch.cat([pooling(features, lengths) for pooling in self.poolings], dim=1)


@pytest.fixture(scope="module")
def poolings() -> Tower:
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)

    def sets(count: int, items: int) -> tuple[torch.Tensor, ...]:
        return torch.randn(count, items, WIDTH, generator=draws), _lengths(count, items, draws)

    inputs = {"features": ("batch", "items", WIDTH), "lengths": ("batch",)}
    return Tower(name="image", module=EveryPooling().eval(), inputs=inputs, sample=sets)


def test_every_pooling_exports(poolings, tmp_path):
    """To ONNX the whole model goes below; all poolings go there too, but take a minute for it."""
    written = write_torch(trace(poolings), tmp_path / "all.pt2", poolings)
    assert check(poolings, written, longest=8) < 1e-4


def shapes_model(*overrides: str) -> VSE:
    """The model of ``experiment=shapes``, with as many words as a vocabulary of the embedded data set has."""
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose("train", ["experiment=shapes", "interaction=none", *overrides])
    model = instantiate(config.model)
    model.settings = OmegaConf.to_container(config.model, resolve=True)
    return model.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[VSE, Path]:
    """A SigLIP after an epoch of fine-tuning: attention that pools, padding that is read, residual GPO."""
    home = tmp_path_factory.mktemp("export")
    module = dual_module(dual_folder("siglip", home / "siglip"), phases=Phases([{"from_epoch": 0, "negatives": "all"}]))
    tiny_trainer(home, max_epochs=1, callbacks=[save_last(home)]).fit(module, datamodule=dual_data(module.model))
    differences = export_towers(VSE.from_pretrained(home / "last.ckpt"), home / "towers", write_onnx, kind="onnx")
    assert max(differences.values()) < 1e-5
    return module.model, home / "towers"


def test_the_folder_tells_how_to_run_the_towers(exported):
    model, folder = exported
    described = json.loads((folder / "towers.json").read_text(encoding="utf-8"))
    captions, photos = ["a red car", "two dogs and a boat jump over the fence"], photographs(2)
    pixels = model.prepare_images(photos)
    assert pixels.shape[1:] == tuple(described["image"]["inputs"]["pixels"]["shape"][1:])
    tokens = model.prepare_captions(captions)
    for tower, inputs, expected in (
        ("image", {"pixels": pixels}, model.encode_images(photos)),
        ("text", {"ids": tokens.ids, "lengths": tokens.lengths}, model.encode_captions(captions)),
    ):
        session = onnxruntime.InferenceSession(folder / described[tower]["file"])
        assert [node.name for node in session.get_inputs()] == list(described[tower]["inputs"])
        (found,) = session.run(["embeddings"], {name: value.numpy() for name, value in inputs.items()})
        assert found.shape == (2, described["width"])
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5, rtol=0)


def test_a_model_with_an_interaction_gives_its_items_too(tmp_path):
    torch.manual_seed(0)
    model = shapes_model("interaction=maxsim")
    assert max(export_towers(model, tmp_path / "towers", write_onnx, kind="onnx").values()) < 1e-4
    captions = ["a red square", "two small blue circles above a green triangle"]
    tokens = model.prepare_captions(captions)
    session = onnxruntime.InferenceSession(tmp_path / "towers" / "text.onnx")
    described = json.loads((tmp_path / "towers" / "towers.json").read_text(encoding="utf-8"))
    assert [node.name for node in session.get_outputs()] == described["text"]["outputs"]
    given = {"ids": tokens.ids.numpy(), "lengths": tokens.lengths.numpy()}
    embeddings, items, lengths = session.run(["embeddings", "items", "item_lengths"], given)
    with torch.inference_mode():
        expected = model.text_encoder.output(tokens, with_items=True)
    np.testing.assert_allclose(embeddings, expected.embeddings.numpy(), atol=1e-4)
    valid = valid_items(expected.items.lengths, items.shape[1])
    np.testing.assert_allclose(items[valid], expected.items.values[valid].numpy(), atol=1e-4)
    assert (items[~valid] == 0).all()
    assert lengths.tolist() == expected.items.lengths.tolist()


def test_an_existing_folder_is_kept(exported):
    model, folder = exported
    before = sorted(folder.iterdir())
    with pytest.raises(VSEError, match="exists and is not empty"):
        export_towers(model, folder, write_torch, kind="pt2")
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("change", [1e-3, float("nan")])
def test_other_embeddings_are_refused_and_leave_nothing(tmp_path, change):
    def write_wrongly(program, path, tower):
        path.write_bytes(b"wrong")
        return lambda inputs: [program.module()(*inputs).numpy() + change]

    with pytest.raises(VSEError, match="the exported image encoder differs from the model"):
        export_towers(shapes_model(), tmp_path / "towers", write_wrongly, kind="pt2")
    assert not list(tmp_path.iterdir())


def test_what_no_graph_can_hold_is_refused_in_one_line():
    class Asks(torch.nn.Module):
        def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return features.sum(1) if int(lengths.sum()) > 3 else features.amax(1)

    def sets(count: int, items: int) -> tuple[torch.Tensor, ...]:
        return torch.randn(count, items, 2), torch.full((count,), items)

    inputs = {"features": ("batch", "items", 2), "lengths": ("batch",)}
    with pytest.raises(VSEError, match=r"^the text encoder cannot be exported \(.+\).+$"):
        trace(Tower(name="text", module=Asks(), inputs=inputs, sample=sets))


def texts(module: torch.nn.Module) -> Tower:
    draws = torch.Generator().manual_seed(0)

    class Values(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = module.eval()

        def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            valid = torch.arange(ids.shape[1]) < lengths[:, None]
            return self.backbone(Tokens(ids, lengths)).values.masked_fill(~valid[:, :, None], 0.0).sum(1)

    def tokens(count: int, items: int) -> tuple[torch.Tensor, ...]:
        return torch.randint(3, 20, (count, items), generator=draws), _lengths(count, items, draws)

    inputs = {"ids": ("batch", "tokens"), "lengths": ("batch",)}
    return Tower(name="text", module=Values(), inputs=inputs, sample=tokens)


def pictures(module: torch.nn.Module, side: int) -> Tower:
    draws = torch.Generator().manual_seed(0)

    class Values(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = module.eval()

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.backbone(pixels).values.sum(1)

    def pixels(count: int, _items: int) -> tuple[torch.Tensor, ...]:
        return (torch.randint(256, (count, 3, side, side), dtype=torch.uint8, generator=draws),)

    return Tower(name="image", module=Values(), inputs={"pixels": ("batch", 3, side, side)}, sample=pixels)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("test_resnet", {"cells": 2}), ("test_vit", {"size": 64, "class_token": True}), ("test_convnext", {})],
)
def test_a_trunk_of_timm_exports(tmp_path, name, settings):
    torch.manual_seed(0)
    tower = pictures(timm_grid(name, pretrained=False, **settings), side=64)
    assert check(tower, write_torch(trace(tower), tmp_path / "t.pt2", tower), longest=1) < 1e-4


def test_both_towers_of_clip_export(tmp_path):
    folder = str(clip_folder(tmp_path / "clip"))
    tower = pictures(clip_images(folder), side=48)
    assert check(tower, write_torch(trace(tower), tmp_path / "i.pt2", tower), longest=1) < 1e-4
    tower = texts(clip_texts(folder))
    program = trace(tower)
    assert towers._longest(program) == 16
    assert check(tower, write_torch(program, tmp_path / "t.pt2", tower), longest=16) < 1e-4


@pytest.mark.parametrize("groups", [1, 2])
def test_bert_exports_without_its_groups(tmp_path, groups):
    torch.manual_seed(0)
    tower = texts(bert_of(FAMILIES["bert"].to_dict(), groups=groups))
    program = trace(tower)
    assert towers._longest(program) == FAMILIES["bert"].max_position_embeddings
    assert check(tower, write_torch(program, tmp_path / "t.pt2", tower), longest=20) < 1e-4


@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_gru_exports_without_packing(tmp_path, bidirectional):
    torch.manual_seed(0)
    tower = texts(BiGRU(vocabulary_size=20, width=4, word_width=3, bidirectional=bidirectional))
    assert check(tower, write_torch(trace(tower), tmp_path / "t.pt2", tower), longest=20) < 1e-5


class Refusing(torch.nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        raise VSEError("a caption of 7 tokens, the text encoder takes 5; set max_tokens=5")


def test_what_a_part_refuses_is_told_as_it_is():
    inputs = {"features": ("batch", 4)}
    tower = Tower(name="text", module=Refusing(), inputs=inputs, sample=lambda sets, _items: (torch.ones(sets, 4),))
    with pytest.raises(VSEError, match=r"^a caption of 7 tokens, the text encoder takes 5; set max_tokens=5$"):
        trace(tower)

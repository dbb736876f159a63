"""CLIP's towers against transformers' own CLIP."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

from tests.helpers.tiny_encoders import FAMILIES, clip_folder
from vse_gpo.backbones.clip import clip_images, clip_texts
from vse_gpo.batch import Tokens
from vse_gpo.errors import VSEError
from vse_gpo.storage.settings import build


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    torch.manual_seed(0)
    return str(clip_folder(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def whole(folder) -> CLIPModel:
    return CLIPModel.from_pretrained(folder).eval()


def pixels(side: int) -> torch.Tensor:
    return torch.randint(256, (2, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize(("side", "patches"), [(32, 16), (48, 36)])
def test_the_image_towers_tokens_are_the_set_at_any_size(side, patches, folder, whole):
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    images = (pixels(side) / 255 - mean) / std
    expected = whole.vision_model(images, interpolate_pos_encoding=True).last_hidden_state
    kept = clip_images(folder, width=8).eval()(pixels(side))
    torch.testing.assert_close(kept.values, expected)
    assert kept.lengths.tolist() == [1 + patches] * 2
    dropped = clip_images(folder, class_token=False).eval()(pixels(side))
    torch.testing.assert_close(dropped.values, expected[:, 1:])
    assert dropped.lengths.tolist() == [patches] * 2


def test_the_text_towers_tokens_up_to_the_end_do_not_see_padding(folder, whole):
    backbone = clip_texts(folder, width=8).eval()
    captions = [torch.tensor([0, 40, 41, 42, 1]), torch.tensor([0, 43, 1])]
    tokens = Tokens(torch.nn.utils.rnn.pad_sequence(captions, batch_first=True), torch.tensor([5, 3]))
    features = backbone(tokens)
    assert features.lengths.tolist() == [5, 3]
    for row, caption in zip(features.values, captions, strict=True):
        expected = whole.text_model(caption[None]).last_hidden_state[0]
        torch.testing.assert_close(row[: len(caption)], expected)


def test_a_caption_that_is_longer_than_the_tower_gives_one_line(folder):
    with pytest.raises(
        VSEError, match=r"17 tokens, the text encoder takes 16; set text\.prepare\.tokenizer\.max_tokens"
    ):
        clip_texts(folder)(Tokens(torch.full((1, 17), 5), torch.tensor([17])))


def test_every_parameter_of_the_towers_trains(folder):
    images, texts = clip_images(folder), clip_texts(folder)
    tokens = Tokens(torch.tensor([[0, 40, 41, 1]]), torch.tensor([4]))
    for backbone, inputs in ((images, pixels(32)), (texts, tokens)):
        assert all(module.training for module in backbone.modules())
        backbone(inputs).values.square().sum().backward()
        assert [name for name, parameter in backbone.named_parameters() if parameter.grad is None] == []


def test_the_towers_layers_are_embeddings_and_blocks(folder):
    for backbone, first in (
        (clip_images(folder), "embeddings.class_embedding"),
        (clip_texts(folder), "embeddings.token_embedding.weight"),
    ):
        names = {parameter: name for name, parameter in backbone.network.named_parameters()}
        layers = [[names[parameter] for parameter in layer] for layer in backbone.layers()]
        assert len(layers) == 3
        assert first in layers[0]
        assert all(f"encoder.layers.{depth}.layer_norm1.weight" in layers[depth + 1] for depth in (0, 1))
        assert sorted(name for layer in layers for name in layer) == sorted(names.values())


@pytest.mark.parametrize("load", [clip_images, clip_texts])
def test_a_tower_is_built_again_from_its_architecture_alone(load, folder):
    tower = load(folder)
    again = build(tower.architecture({"pretrained": folder}))
    again.load_state_dict(tower.state_dict())
    assert again.training
    random = load(folder, random_weights=True)
    assert random.state_dict().keys() == tower.state_dict().keys()
    assert not torch.equal(next(random.parameters()), next(tower.parameters()))


def test_what_is_no_clip_is_refused_in_one_line(folder, tmp_path):
    FAMILIES["bert"].save_pretrained(tmp_path / "bert")
    broken = Path(tmp_path / "broken")
    broken.mkdir()
    (broken / "config.json").write_bytes((Path(folder) / "config.json").read_bytes())
    state = load_file(Path(folder) / "model.safetensors")
    del state["vision_model.embeddings.class_embedding"]
    save_file(state, broken / "model.safetensors", metadata={"format": "pt"})
    for source, message in (
        (tmp_path / "bert", r"backbone\.pretrained=.*gives no CLIP \(it is bert\); name one"),
        (broken, r"gives no CLIP \(1 weights are missing, first vision_model\.embeddings\.class_embedding\)"),
        (tmp_path, "gives no CLIP"),
    ):
        with pytest.raises(VSEError, match=message) as error:
            clip_images(str(source))
        assert "\n" not in str(error.value)
    with pytest.raises(VSEError, match=r"features 8 wide, text\.width is 512; set text\.width=8"):
        clip_texts(folder, width=512)

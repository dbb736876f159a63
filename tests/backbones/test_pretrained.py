"""Pretrained weights: read without running code, and none missing."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel

from tests.helpers.tiny_encoders import FAMILIES
from vse_gpo.backbones.pretrained import check_width, load_weights, read_weights
from vse_gpo.backbones.texts import load_bert
from vse_gpo.backbones.timm_trunks import timm_grid
from vse_gpo.errors import VSEError


def test_a_weights_file_runs_no_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (print, ("boom",))

    torch.save({"conv1.weight": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(VSEError, match="cannot be read as weights"):
        timm_grid("resnet18", weights=str(tmp_path / "bomb.pth"))


def test_weights_that_a_file_lacks_are_not_drawn_at_random(tmp_path):
    network = AutoModel.from_config(FAMILIES["bert"])
    state = {name: value for name, value in network.state_dict().items() if "layer.1.output" not in name}
    network.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(
        VSEError, match=r"text encoder \(4 weights are missing, first encoder\.layer\.1\.output.*name a Hugging Face"
    ):
        load_bert(str(tmp_path))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_weights_are_read_by_name_and_fit_their_network_alone(name, tmp_path):
    network, path = nn.Linear(2, 3), str(tmp_path / name)
    state = network.state_dict()
    save_file(state, path) if name.endswith("safetensors") else torch.save(state, path)
    again = nn.Linear(2, 3)
    load_weights(again, read_weights(path), path)
    assert torch.equal(again.weight, network.weight)
    with pytest.raises(VSEError, match=rf"{name}: weights of another network: .*size mismatch") as error:
        load_weights(nn.Linear(2, 4), read_weights(path), path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
@pytest.mark.parametrize("content", [None, b"no weights"])
def test_a_file_that_cannot_be_read_gives_one_line(name, content, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VSEError, match=rf"{name}: cannot be read as weights") as error:
        read_weights(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_a_width_is_checked_where_one_is_expected():
    check_width("resnet18", 512, None, "backbone.width")
    check_width("resnet18", 512, 512, "backbone.width")
    with pytest.raises(VSEError, match=r"resnet18 gives features 512 wide, backbone\.width is 8; set backbone\.width="):
        check_width("resnet18", 512, 8, "backbone.width")


@pytest.mark.filterwarnings("ignore::UserWarning")  # both kinds of tensor are going or coming
def test_weights_that_a_flipped_bit_or_another_kind_of_tensor_spoils_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"model_ema": {"a": torch.ones(100, 100)}}, path)
    assert [*read_weights(str(path))] == ["a"]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(VSEError, match=r"cannot be read as weights .*does not have its checksum"):
        read_weights(str(path))
    for odd in (
        torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    ):
        torch.save({"a": odd}, path)
        with pytest.raises(VSEError, match="a is a sparse, nested or quantized tensor"):
            read_weights(str(path))

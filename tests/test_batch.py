"""What the stages exchange, and how batches are encoded."""

import pytest
import torch
from torch import Tensor

from vse_gpo.batch import (
    Batch,
    Features,
    Indexed,
    Tokens,
    choose_device,
    choose_devices,
    encode_batches,
    hand_over,
    pad_sets,
    take,
    to_device,
    valid_items,
)
from vse_gpo.errors import VSEError

CPU = torch.device("cpu")


def test_sets_are_padded_to_the_largest_and_their_items_told_from_padding():
    values, lengths = pad_sets([torch.ones(2, 3), torch.ones(4, 3), torch.ones(1, 3)])
    assert values.shape == (3, 4, 3)
    assert lengths.tolist() == [2, 4, 1]
    assert torch.equal(values[:, :, 0] == 1, valid_items(lengths, 4))
    assert valid_items(torch.tensor([2, 0]), 3).tolist() == [[True, True, False], [False] * 3]
    assert valid_items(torch.tensor([2, 0]), 3, torch.device("meta")).device.type == "meta"


def test_rows_are_taken_from_everything_in_a_batch():
    ids, index = torch.arange(12).reshape(4, 3), torch.arange(4)
    batch = Batch(Features(torch.rand(4, 2, 5), index + 1), Tokens(ids, index + 1), index, index + 10)
    part = take(batch, slice(1, 3))
    assert isinstance(part.images, Features)
    assert isinstance(part.tokens, Tokens)
    assert torch.equal(part.images.values, batch.images.values[1:3])
    assert part.tokens.ids.tolist() == ids[1:3].tolist()
    assert (part.image_index.tolist(), part.caption_index.tolist()) == ([1, 2], [11, 12])


@pytest.mark.parametrize(
    "inputs",
    [
        torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        Features(torch.rand(2, 3, 4), torch.tensor([3, 1])),
        Tokens(torch.ones(2, 3, dtype=torch.int64), torch.tensor([3, 1])),
    ],
    ids=["pixels", "features", "tokens"],
)
def test_inputs_keep_their_kind_on_any_device_and_their_lengths_on_the_cpu(inputs):
    moved = Indexed(to_device(inputs, CPU), torch.tensor([5, 6])).to(torch.device("meta"))
    assert type(moved.inputs) is type(inputs)
    values, *lengths = [moved.inputs] if isinstance(inputs, Tensor) else moved.inputs
    assert values.device.type == moved.rows.device.type == "meta"
    assert [part.tolist() for part in lengths] == ([] if isinstance(inputs, Tensor) else [[3, 1]])


def test_a_batch_moves_whole_but_for_its_lengths():
    index = torch.arange(2)
    tokens = Tokens(index[:, None], index + 1)
    batch = Batch(Features(torch.rand(2, 3, 4), index + 1), tokens, index, index)
    assert batch.to(torch.device("meta")).dense is None
    moved = batch._replace(dense=tokens).to(torch.device("meta"))
    assert isinstance(moved.images, Features)
    assert isinstance(moved.tokens, Tokens)
    assert isinstance(moved.dense, Tokens)
    assert moved.images.lengths.tolist() == moved.tokens.lengths.tolist() == moved.dense.lengths.tolist() == [1, 2]
    values = (moved.images.values, moved.tokens.ids, moved.dense.ids, moved.image_index, moved.caption_index)
    assert {part.device.type for part in values} == {"meta"}


def test_what_is_handed_over_is_the_same_there():
    assert torch.equal(hand_over(torch.arange(3), CPU), torch.arange(3))
    assert hand_over(torch.arange(3), torch.device("meta")).shape == (3,)


def test_batches_are_encoded_one_by_one_in_float32_without_gradients():
    layer, seen = torch.nn.Linear(3, 2).double(), []

    def encode(pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        return layer(pixels.double().mean(dim=(2, 3)))

    pixels = torch.randint(0, 256, (5, 3, 2, 2), dtype=torch.uint8)
    batches = (Indexed(pixels[rows], rows) for rows in torch.arange(5).split(2))
    encoded = encode_batches(encode, batches, CPU)
    assert seen == []  # nothing before it is asked for
    first = next(encoded)
    assert seen == [2]
    parts = [first, *encoded]
    assert [part.rows.tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    for part in parts:
        assert part.embeddings.dtype == torch.float32
        assert not part.embeddings.requires_grad
        torch.testing.assert_close(part.embeddings, encode(pixels[part.rows]).float())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("accelerator", "there", "device"),
    [("auto", True, "cuda"), ("gpu", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu")],
)
def test_the_gpu_is_taken_where_there_is_one_that_nobody_refuses(monkeypatch, accelerator, there, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_device(accelerator).type == device


def test_a_gpu_that_is_asked_for_and_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(VSEError, match=r"accelerator=gpu: no GPU that PyTorch .* can use; set it to auto"):
        choose_device("gpu")


def test_devices_are_counted(monkeypatch):
    assert choose_devices("cpu", 3) == 3 * [CPU]
    assert choose_devices("cpu", "auto") == [CPU]
    for wrong in (0, -1, "2", True):
        with pytest.raises(VSEError, match="expected a whole number from 1 on, or auto"):
            choose_devices("cpu", wrong)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_devices("auto", "auto") == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert choose_devices("gpu", 1) == [torch.device("cuda", 0)]
    with pytest.raises(VSEError, match="devices=3, but this machine has 2 GPUs; set devices=auto for all of them"):
        choose_devices("gpu", 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_that_are_copied_ahead_are_encoded_as_they_are():
    gpu = torch.device("cuda")
    values = [torch.randn(64, 100, 100).pin_memory() for _ in range(8)]
    batches = [Indexed(Features(one, torch.full((64,), 100)), torch.arange(64)) for one in values]
    found = [part.embeddings.cpu() for part in encode_batches(lambda sets: sets.values @ sets.values, batches, gpu)]
    for one, other in zip(values, found, strict=True):
        torch.testing.assert_close(other, one @ one, rtol=1e-3, atol=1e-3)

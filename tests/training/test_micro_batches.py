"""A batch in micro-batches gives what it gives at once, in the memory of one of them."""

import tracemalloc
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint

from tests.helpers.tiny import WIDTH, tiny_module
from vse_gpo.backbones.small import small_grid
from vse_gpo.batch import Batch, EncoderOutput, Features, Tokens, join_outputs
from vse_gpo.encoder import DropRegions, Encoder, ResidualProjection, normalize
from vse_gpo.interaction import Interaction, MaxSim, ScanTextToImage
from vse_gpo.losses import InfoNCE, TripletLoss
from vse_gpo.model import EMBEDDING, INTERACTION, VSE
from vse_gpo.pooling import GPO
from vse_gpo.training.micro_batches import encode_micro_batches, micro_batches

PAIRS = 7
Outputs = tuple[EncoderOutput, EncoderOutput]
Encode = Callable[[VSE, Batch], Outputs]
LOSSES = {
    "triplet, all": lambda similarity: TripletLoss(0.5)(similarity, hardest=False),
    "triplet, hardest": lambda similarity: TripletLoss(0.5)(similarity, hardest=True),
    "InfoNCE": InfoNCE(0.1).double(),
}


def region_batch() -> Batch:
    generator = torch.Generator().manual_seed(3)
    regions = torch.randn(PAIRS, 4, WIDTH, generator=generator, dtype=torch.float64)
    ids = torch.randint(1, 27, (PAIRS, 5), generator=generator)
    lengths = torch.tensor([5, 1, 2, 5, 3, 4, 2])
    ids = ids.masked_fill(torch.arange(5) >= lengths[:, None], 0)
    index = torch.arange(PAIRS)
    return Batch(Features(regions, torch.tensor([4, 3, 4, 1, 4, 2, 4])), Tokens(ids, lengths), index, index + 100)


def pixel_batch() -> Batch:
    pixels = torch.randint(0, 256, (PAIRS, 3, 16, 16), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)
    return region_batch()._replace(images=pixels)


class InFloat64(Encoder):
    """Pools in float64 too, so that rounding errors hide nothing."""

    def embed(self, items: Features) -> Tensor:
        return normalize(self.pooling(items.values, items.lengths))

    def scale(self, items: Features) -> Features:
        return items._replace(values=normalize(items.values))


def model(
    *,
    encoder: type[Encoder] = InFloat64,
    random: bool = False,
    interaction: Interaction | None = None,
    **image_parts: nn.Module,
) -> VSE:
    built = tiny_module(dropout=0.3 if random else 0.0).model
    image, text = built.image_encoder, built.text_encoder
    built.image_encoder = encoder(
        backbone=image_parts.get("backbone", image.backbone),
        projection=image_parts.get("projection", image.projection),
        pooling=GPO(8, 4),
        size_augmentation=DropRegions(0.4) if random else None,
    )
    built.interaction = interaction
    built.text_encoder = encoder(backbone=text.backbone, projection=text.projection, pooling=text.pooling)
    return built.double()


def twice(size: int) -> Encode:
    return lambda network, batch: encode_micro_batches(network, batch, size)


def in_parts(size: int, encode: Encode = VSE.outputs) -> Encode:
    """Micro-batches whose activations are all kept: the same draws and statistics as those of ``embed``."""

    def run(network: VSE, batch: Batch) -> Outputs:
        images, captions = zip(*(encode(network, part) for part in micro_batches(batch, size)), strict=True)
        return join_outputs(images), join_outputs(captions)

    return run


def step(network: VSE, batch: Batch, encode: Encode, loss: str) -> list[Tensor]:
    """The loss and all gradients, the loss's own included."""
    torch.manual_seed(5)
    network.zero_grad()
    own = [parameter for parameter in LOSSES.values() if isinstance(parameter, nn.Module)]
    for module in own:
        module.zero_grad()
    images, captions = encode(network, batch)
    kinds = [EMBEDDING] if network.interaction is None else [EMBEDDING, INTERACTION]
    value = torch.stack([LOSSES[loss](network.similarity(kind, images, captions)) for kind in kinds]).sum()
    value.backward()
    parameters = [*network.parameters(), *(parameter for module in own for parameter in module.parameters())]
    return [value.detach(), *(parameter.grad for parameter in parameters if parameter.grad is not None)]


def assert_same(found: list[Tensor], expected: list[Tensor], tolerance: float = 1e-10) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [1, 3, PAIRS, 20])
def test_loss_and_gradients_are_those_of_one_pass(loss, size):
    network = model()
    expected = step(network, region_batch(), VSE.outputs, loss)
    assert any(gradient.abs().max() > 1e-2 for gradient in expected[1:])
    assert_same(step(network, region_batch(), twice(size), loss), expected)


@pytest.mark.parametrize("interaction", [ScanTextToImage(), MaxSim()])
@pytest.mark.parametrize("size", [1, 3, PAIRS])
def test_the_similarities_of_all_items_have_the_gradients_of_one_pass_too(interaction, size):
    network = model(interaction=interaction)
    expected = step(network, region_batch(), VSE.outputs, "triplet, hardest")
    by_embeddings = step(model(), region_batch(), VSE.outputs, "triplet, hardest")
    assert expected[0] > by_embeddings[0] + 0.1
    assert_same(step(network, region_batch(), twice(size), "triplet, hardest"), expected)


def test_pixels_are_split_too():
    network = model(backbone=small_grid(WIDTH)).eval()
    expected = step(network, pixel_batch(), VSE.outputs, "InfoNCE")
    assert_same(step(network, pixel_batch(), twice(2), "InfoNCE"), expected)


@pytest.mark.parametrize("size", [2, 3])
def test_both_passes_draw_the_same(size):
    network = model(random=True)
    expected = step(network, region_batch(), in_parts(size), "InfoNCE")
    after = torch.rand(1)
    assert_same(step(network, region_batch(), twice(size), "InfoNCE"), expected)
    assert torch.equal(torch.rand(1), after)
    torch.manual_seed(6)
    one, other = (encode_micro_batches(network, region_batch(), size)[0] for _ in range(2))
    assert not torch.equal(one.embeddings, other.embeddings)


def test_a_trained_batchnorm_has_the_statistics_of_each_micro_batch_and_updates_them_once():
    ours, oracle = (model(projection=ResidualProjection(WIDTH, 8)) for _ in range(2))
    ours.load_state_dict(oracle.state_dict())
    expected = step(oracle, region_batch(), in_parts(3), "InfoNCE")
    assert_same(step(ours, region_batch(), twice(3), "InfoNCE"), expected)
    statistics = dict(oracle.named_buffers())
    assert statistics["image_encoder.projection.mlp.1.num_batches_tracked"] == 3
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, statistics[name])


def test_a_batchnorm_with_frozen_statistics_changes_nothing():
    network = model(projection=ResidualProjection(WIDTH, 8)).eval()
    expected = step(network, region_batch(), VSE.outputs, "InfoNCE")
    assert_same(step(network, region_batch(), twice(3), "InfoNCE"), expected)


def test_half_precision_sums_the_gradients_of_micro_batches_in_full_precision():
    network = model(encoder=Encoder).float()
    batch = region_batch()
    batch = batch._replace(images=Features(batch.images.values.float(), batch.images.lengths))

    def halved(encode: Encode) -> Encode:
        def run(network: VSE, batch: Batch) -> Outputs:
            with torch.autocast("cpu", torch.bfloat16):
                return encode(network, batch)

        return run

    expected = step(network, batch, in_parts(2, halved(VSE.outputs)), "triplet, all")
    assert_same(step(network, batch, halved(twice(2)), "triplet, all"), expected, 1e-5)


class Probe(nn.Module):
    """Counts how many of its results are in memory at once."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[StorageWeakRef] = []
        self.most = 0

    def forward(self, values: Tensor) -> Tensor:
        result = values.exp()  # kept for the gradient
        self.results.append(StorageWeakRef(result.untyped_storage()))
        self.most = max(self.most, sum(not storage.expired() for storage in self.results))
        return result


def test_activations_of_one_micro_batch_alone_are_in_memory():
    for encode, most in ((in_parts(2), 4), (twice(2), 1)):
        probe = Probe()
        step(model(projection=nn.Sequential(nn.Linear(WIDTH, 8), probe)), region_batch(), encode, "InfoNCE")
        assert probe.most == most
    assert len(probe.results) == 4 + 4


def test_what_poolings_keep_in_numpy_is_forgotten_too():
    features, lengths = torch.randn(64, 50, 64), torch.arange(64) % 50 + 1
    tracemalloc.start()
    try:
        pooled = checkpoint(GPO(), features, lengths, use_reentrant=False)
        kept, most = tracemalloc.get_traced_memory()
        pooled.sum().backward()
    finally:
        tracemalloc.stop()
    assert most > features.nbytes
    assert kept < features.nbytes / 10


@given(st.integers(1, 9))
def test_micro_batches_are_the_batch_in_order(size):
    batch = region_batch()
    parts = list(micro_batches(batch, size))
    assert [len(part.image_index) for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert [part.tokens.ids.shape[1] for part in parts] == [int(part.tokens.lengths.max()) for part in parts]
    width = batch.tokens.ids.shape[1]
    ids = [nn.functional.pad(part.tokens.ids, (0, width - part.tokens.ids.shape[1])) for part in parts]
    joined = Batch(
        Features(*(torch.cat(items) for items in zip(*(part.images for part in parts), strict=True))),
        Tokens(torch.cat(ids), torch.cat([part.tokens.lengths for part in parts])),
        *(torch.cat([part[field] for part in parts]) for field in (2, 3)),
    )
    for found, expected in zip(
        [*joined.images, *joined.tokens, *joined[2:4]], [*batch.images, *batch.tokens, *batch[2:4]], strict=True
    ):
        assert torch.equal(found, expected)

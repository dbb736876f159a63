import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.golden import assert_close, load, under
from vse_gpo.backbones.backbone import Backbone
from vse_gpo.backbones.images import Regions
from vse_gpo.batch import Features
from vse_gpo.checkpoints.released import grid_names, region_names
from vse_gpo.encoder import DropCells, DropRegions, Encoder, ResidualProjection, keep_items, normalize
from vse_gpo.errors import VSEError
from vse_gpo.pooling import GPO, Mean


class Given(Backbone):
    """Features as they are handed in."""

    def forward(self, features: Features) -> Features:
        return features


def region_encoder(size_augmentation=None) -> Encoder:
    return Encoder(
        backbone=Regions(20),
        projection=ResidualProjection(20, 16),
        pooling=GPO(),
        size_augmentation=size_augmentation,
    )


def test_region_encoder_equals_the_released_program_with_gradients_and_statistics():
    golden = load("region_encoder")
    encoder = region_encoder()
    encoder.load_state_dict(region_names(under(golden, "w/")))
    regions = Features(golden["regions"], golden["lengths"])
    undo_statistics(encoder, regions)  # the stored statistics are those after the training step

    encoder.eval()
    assert_close(encoder(regions), golden["eval/embedding"])

    encoder.train()
    embedding = encoder(regions)
    embedding.backward(golden["train/grad_embedding"])
    assert_close(embedding, golden["train/embedding"])
    for name, value in region_names(under(golden, "after/")).items():
        assert_close(encoder.get_buffer(name), value)
    gradients = region_names(under(golden, "train/g/"))
    found = torch.cat([encoder.get_parameter(name).grad.flatten() for name in gradients])
    assert_close(found, torch.cat([gradient.flatten() for gradient in gradients.values()]))


def undo_statistics(encoder: Encoder, regions: Features) -> None:
    """Set the BatchNorm back to before the step that these regions made: after = 0.9 · before + 0.1 · batch."""
    norm = encoder.projection.mlp[1]
    after = [norm.running_mean.clone(), norm.running_var.clone()]
    norm.momentum = 1.0
    encoder.train()(regions)
    for statistic, value in zip([norm.running_mean, norm.running_var], after, strict=True):
        statistic.copy_((value - 0.1 * statistic) / 0.9)
    norm.momentum = 0.1


def test_grid_head_equals_the_released_program():
    golden = load("grid_head")
    encoder = Encoder(backbone=Given(), projection=nn.Linear(20, 16), pooling=GPO()).eval()
    encoder.load_state_dict(grid_names({f"image_encoder.{name}": value for name, value in under(golden, "w/").items()}))
    grids = golden["grids"]
    assert_close(encoder(Features(grids, torch.full((len(grids),), grids.shape[1]))), golden["embedding"])


def test_embeddings_are_unit_vectors_and_a_zero_vector_stays_finite():
    vectors = normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(vectors, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_size_augmentation_runs_in_training_only():
    encoder = region_encoder(DropRegions(probability=0.5))
    encoder.projection.mlp[1].momentum = 0.0
    regions = Features(torch.randn(4, 12, 20), torch.full((4,), 12))
    encoder.eval()
    assert torch.equal(encoder(regions), encoder(regions))
    encoder.train()
    assert not torch.equal(encoder(regions), encoder(regions))


@given(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=5), st.integers(0, 2**16))
def test_kept_items_move_to_the_front_in_order(rows, seed):
    torch.manual_seed(seed)
    keep = torch.tensor(rows)
    lengths = torch.randint(1, 7, (len(rows),))
    values = torch.randn(len(rows), 6, 3)
    found = keep_items(Features(values, lengths), keep)
    for row, length in enumerate(lengths.tolist()):
        expected = values[row, :length][keep[row, :length]]
        if len(expected) == 0:  # a set never loses all of its items
            expected = values[row, :length]
        assert found.lengths[row] == len(expected)
        assert torch.equal(found.values[row, : len(expected)], expected)
        assert (found.values[row, len(expected) :] == 0).all()


def test_regions_are_dropped_at_the_published_rate():
    torch.manual_seed(0)
    features = Features(torch.ones(2000, 36, 1), torch.full((2000,), 36))
    kept = DropRegions(0.2)(features).lengths.float() / 36
    assert kept.mean().item() == pytest.approx(0.8, abs=0.005)


def test_cells_are_dropped_at_a_rate_drawn_per_image():
    torch.manual_seed(0)
    features = Features(torch.ones(4000, 100, 1), torch.full((4000,), 100))
    lengths = DropCells(0.2, threshold=0.2)(features).lengths.float()
    assert (lengths == 100).float().mean().item() == pytest.approx(0.2, abs=0.03)
    # E[drop] = 0.2 · ∫ r over (0.2, 1) = 0.2 · 0.48
    assert (1 - lengths / 100).mean().item() == pytest.approx(0.096, abs=0.005)


def test_pooling_stays_in_float32_under_autocast():
    encoder = Encoder(backbone=Given(), projection=nn.Linear(4, 4), pooling=Mean())
    with torch.autocast("cpu", torch.bfloat16):
        embedding = encoder(Features(torch.randn(2, 3, 4), torch.tensor([3, 2])))
    assert embedding.dtype == torch.float32
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("augmentation", [DropRegions, DropCells])
@pytest.mark.parametrize("probability", [-0.1, 1.5])
def test_a_share_that_is_no_probability_is_refused(augmentation, probability):
    with pytest.raises(VSEError, match="expected 0 to 1"):
        augmentation(probability)

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.on_disk import listing, write_features
from vse_gpo.data.regions import PrepareRegions, RegionFiles
from vse_gpo.errors import VSEError

RANDOM = np.random.default_rng(0)


def test_a_row_per_image(tmp_path: Path) -> None:
    features = RANDOM.random((3, 4, 8), dtype=np.float32)
    write_features(tmp_path, features)
    regions = RegionFiles(tmp_path, listing(), width=8)
    assert len(regions) == 3
    for row in range(3):
        np.testing.assert_array_equal(regions[row], features[row])


def test_a_row_per_caption_with_ragged_captions(tmp_path: Path) -> None:
    features = RANDOM.random((3, 4, 8), dtype=np.float32)
    write_features(tmp_path, features[listing().caption_to_image])
    regions = RegionFiles(tmp_path, listing(), width=8)
    assert len(regions) == 3
    for row in range(3):
        np.testing.assert_array_equal(regions[row], features[row])


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    features = RANDOM.random((3, 4, 8)).astype(np.float16)
    write_features(tmp_path, features)
    regions = RegionFiles(tmp_path, listing(), width=8)[1]
    assert regions.dtype == torch.float32
    np.testing.assert_array_equal(regions, features[1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_names_the_file_the_row_and_the_image(value: float, tmp_path: Path) -> None:
    features = np.ones((6, 4, 8), np.float32)
    features[3, 2, 1] = value
    path = write_features(tmp_path, features)
    regions = RegionFiles(tmp_path, listing(), width=8)
    assert regions[0].sum() == 32
    with pytest.raises(VSEError, match=f"{path}: row 3 .image 3. holds NaN or infinity"):
        regions[1]


def test_another_width_or_count(tmp_path: Path) -> None:
    write_features(tmp_path, np.ones((3, 4, 8), np.float32))
    with pytest.raises(VSEError, match=r"features are 8 wide, the backbone expects 16; set backbone\.width=8"):
        RegionFiles(tmp_path, listing(), width=16)
    write_features(tmp_path, np.ones((5, 4, 8), np.float32))
    with pytest.raises(VSEError, match="5 rows for 3 images with 6 captions"):
        RegionFiles(tmp_path, listing(), width=8)


def test_a_process_that_is_not_forked_maps_the_file_itself(tmp_path: Path) -> None:
    write_features(tmp_path, np.ones((3, 400, 80), np.float32))
    regions = RegionFiles(tmp_path, listing(), width=80)
    sent = pickle.dumps(regions)
    assert len(sent) < 5_000
    assert torch.equal(pickle.loads(sent)[2], regions[2])  # noqa: S301


def test_regions_of_different_numbers_are_padded() -> None:
    sets = [torch.ones(3, 8), torch.ones(5, 8)]
    prepare = PrepareRegions()
    features = prepare.collate([prepare.encode(regions, None) for regions in sets])
    assert features.values.shape == (2, 5, 8)
    assert features.lengths.tolist() == [3, 5]
    assert features.values.sum() == 64
    assert torch.equal(prepare(sets).values, features.values)


def test_an_image_in_the_place_of_regions_is_refused():
    with pytest.raises(
        VSEError, match=r"found an image of shape \(3, 8, 8\), expected region features .* this data set"
    ):
        PrepareRegions().encode(torch.zeros(3, 8, 8, dtype=torch.uint8))

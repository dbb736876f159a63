from pathlib import Path

import numpy as np
import pytest

from tests.helpers.on_disk import CAPTIONS, FOLDER, listing, write_features, write_images, write_texts
from vse_gpo.data.checks import (
    Counts,
    FeatureKind,
    check_captions,
    check_features,
    check_images,
    check_split,
)
from vse_gpo.data.findings import UNCHECKED, Finding, verdict
from vse_gpo.errors import VSEError

COUNTS = Counts(images=3, captions=6)
KIND = FeatureKind(regions=4, width=8, nonnegative=True)
FEATURES = np.random.default_rng(0).random((3, 4, 8), dtype=np.float32)


def write_everything(root: Path, split: str = "train") -> None:
    write_texts(root, split)
    write_features(root, FEATURES, split)
    write_images(root, list(CAPTIONS))


def look(root: Path, **changes: object) -> dict[str, Finding]:
    settings = {"counts": COUNTS, "kind": KIND, "folder": FOLDER, "rows": 8, "decode": False} | changes
    return {finding.part: finding for finding in check_split(root, "train", **settings)}


# what is found


def test_a_whole_split(tmp_path: Path) -> None:
    write_everything(tmp_path)
    findings = look(tmp_path)
    assert list(findings) == ["captions", "features", "images"]
    assert not any(finding.problem for finding in findings.values())
    assert findings["captions"].expected == findings["captions"].found == "3 images, 6 captions"
    assert findings["features"].found.startswith("3 × 4 × 8 float32, mean 0.")
    assert findings["images"].found == "3 files"


def test_dense_captions_are_checked_where_they_are_asked_for(tmp_path: Path) -> None:
    write_everything(tmp_path)
    (tmp_path / "dense.txt").write_text("a long one\n" * 6, encoding="utf-8")
    finding = look(tmp_path, dense=str(tmp_path / "dense.txt"))["dense captions"]
    assert (finding.found, finding.problem) == ("3 × 2 lines", None)
    (tmp_path / "dense.txt").write_text("a long one\n", encoding="utf-8")
    finding = look(tmp_path, dense=str(tmp_path / "dense.txt"))["dense captions"]
    assert "1 lines for 3 images" in str(finding.problem)
    with pytest.raises(VSEError, match="missing or wrong for training: dense captions of train"):
        verdict([finding], "any")


def test_a_split_that_is_not_known_may_have_any_size(tmp_path: Path) -> None:
    write_everything(tmp_path)
    assert not any(finding.problem for finding in look(tmp_path, counts=None, kind=None).values())


def test_without_captions_the_rest_is_not_judged(tmp_path: Path) -> None:
    write_everything(tmp_path)
    (tmp_path / "precomp" / "train_ids.txt").unlink()
    findings = look(tmp_path)
    assert "train_ids.txt: no such file" in str(findings["captions"].problem)
    assert "check_data" not in str(findings["captions"].problem)
    assert findings["features"].problem == findings["images"].problem == UNCHECKED


def test_a_part_that_is_wrong_leaves_the_others_alone(tmp_path: Path) -> None:
    write_everything(tmp_path)
    (tmp_path / "id_mapping.json").unlink()
    findings = look(tmp_path)
    assert findings["features"].problem is None
    assert "id_mapping.json: no such file" in str(findings["images"].problem)


def test_counts_that_are_not_the_published_ones() -> None:
    with pytest.raises(VSEError, match="3 images, 6 captions, expected 3 and 7"):
        check_captions(listing(), Counts(images=3, captions=7))


# features


def test_statistics_of_features(tmp_path: Path) -> None:
    write_features(
        tmp_path,
        np.where(np.arange(8) < 2, 0.0, np.float32([1, 1, 2, 2])[:, None]).astype(np.float16)[None]
        * np.float16([1, 2, 3])[:, None, None],
    )
    found = check_features(tmp_path, listing(), KIND, rows=2)  # the first and the last
    assert found == "3 × 4 × 8 float16, mean 2.25, 25 % zeros, 0.00 to 6.00"


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.where(np.arange(3)[:, None, None] == 2, np.nan, FEATURES), r"NaN or infinity in row 2, and 0 more of 3"),
        (FEATURES * np.float32([1, 0, 0])[:, None, None], "nothing but zeros in row 1, and 1 more of 3"),
        (np.broadcast_to(FEATURES[:1], FEATURES.shape), "the 3 rows read are all the same"),
        (FEATURES - 0.5, r"values down to -0\.\d\d, the published features have none below 0"),
        (FEATURES[:, :2], r"3 × 2 × 8, expected 4 × 8 an image; for features of your own"),
        (FEATURES[:2], "2 rows for 3 images with 6 captions"),
    ],
)
def test_wrong_features(features: np.ndarray, message: str, tmp_path: Path) -> None:
    write_features(tmp_path, features.astype(np.float32))
    with pytest.raises(VSEError, match=message):
        check_features(tmp_path, listing(), KIND, rows=8)


def test_features_of_ones_own_may_be_negative_and_of_any_width(tmp_path: Path) -> None:
    write_features(tmp_path, (FEATURES - 0.5)[:, :2])
    assert check_features(tmp_path, listing(), None, rows=8).startswith("3 × 2 × 8 float32")


def test_rows_per_caption_are_read_where_the_images_are(tmp_path: Path) -> None:
    features = FEATURES[listing().caption_to_image]
    features[1] = np.nan  # the second caption's copy of the first image is never read
    write_features(tmp_path, features)
    assert check_features(tmp_path, listing(), KIND, rows=8).startswith("6 × 4 × 8")


# images


def test_decoding_names_a_broken_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mapping = write_images(tmp_path, list(CAPTIONS))
    assert check_images(tmp_path, listing(), FOLDER, decode=True) == "3 files, all decoded"
    broken = tmp_path / FOLDER / mapping["3"]
    broken.write_bytes(broken.read_bytes()[:200])
    assert check_images(tmp_path, listing(), FOLDER, decode=False) == "3 files"
    with pytest.raises(VSEError, match=r"1 of 3 images cannot be decoded: '3\.jpg'"):
        check_images(tmp_path, listing(), FOLDER, decode=True)
    assert capsys.readouterr().out == ""

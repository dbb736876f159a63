"""On Parquet files of the form of nlphuji/flickr30k: one split of the hub, a column with the names of Karpathy's."""

import pickle
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from tests.helpers.tiny_shards import encoded
from vse_gpo.data.decoding import image_from
from vse_gpo.data.hub import HubDataset
from vse_gpo.data.split import ImageReadError
from vse_gpo.errors import VSEError

NAMES = ["train", "train", "val", "test", "train", "test"]  # split of each row
TEXTS = [["a  dog", "two dogs"], ["a boat"], ["a car", " "], ["a tree"], ["x", "y", "z"], ["one"]]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.disable_progress_bars()


def write_parquet(path: Path, **changes: object) -> Path:
    """The columns of flickr30k."""
    rows = range(len(NAMES))
    columns = {
        "image": [{"bytes": encoded(row, "JPEG"), "path": f"{row}.jpg"} for row in rows],
        "caption": TEXTS,
        "sentids": [[str(row)] for row in rows],
        "split": NAMES,
        "img_id": [str(100 + row) for row in rows],
        "filename": [f"{row}.jpg" for row in rows],
    }
    columns = {name: values for name, values in (columns | changes).items() if values is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_dict(columns)
    (table.cast_column("image", datasets.Image()) if "image" in columns else table).to_parquet(path)
    return path


def hub(folder: Path, path: Path, **settings: object) -> HubDataset:
    return HubDataset(source=str(path), cache=str(folder / "cache"), **settings)


def test_splits_are_the_rows_that_name_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = hub(tmp_path, write_parquet(tmp_path / "all-0.parquet"))
    train, dev, test = (data.split(name) for name in ("train", "dev", "test"))
    assert list(train.captions) == ["a dog", "two dogs", "a boat", "x", "y", "z"]
    assert train.caption_to_image.tolist() == [0, 0, 1, 2, 2, 2]
    assert list(train.image_ids) == ["100", "101", "104"]
    assert torch.equal(train.images[2], image_from(encoded(4, "JPEG"), "4"))
    assert [list(dev.captions), list(test.image_ids)] == [["a car"], ["103", "105"]]
    shown = "all-0.parquet: images in 'image', captions in 'caption', splits in 'split', ids in 'img_id'\n"
    assert capsys.readouterr().err.endswith(shown)


def test_splits_of_the_hub_columns_of_any_name_and_one_caption_a_row(tmp_path: Path):
    """A folder as the hub has it: the files' names tell the splits."""
    texts = [texts[0] for texts in TEXTS]
    for name in ("train", "validation"):
        images = [encoded(row) for row in range(len(NAMES))]
        columns = {"image": None, "caption": None, "split": None, "img_id": None, "filename": None}
        write_parquet(tmp_path / "data" / f"{name}-00000-of-00001.parquet", **columns, picture=images, words=texts)
    data = hub(tmp_path, tmp_path / "data", image="picture", caption="words")
    dev = data.split("dev")
    assert [list(dev.captions)[:2], list(dev.image_ids)[:2]] == [["a dog", "a boat"], ["0", "1"]]
    assert torch.equal(dev.images[3], image_from(encoded(3), "3"))
    with pytest.raises(VSEError, match=r"no split test, it has train, validation; set the name as dataset.train"):
        data.split("test")


def test_rows_that_cannot_be_used_are_counted_and_named(tmp_path: Path):
    images = [{"bytes": encoded(row), "path": None} for row in range(len(NAMES))]
    images[0] = {"bytes": None, "path": "/etc/passwd"}
    images[1] = {"bytes": b"no image", "path": None}
    path = write_parquet(tmp_path / "a.parquet", image=images, caption=[*TEXTS[:4], [" "], ["one"]])
    with pytest.warns(UserWarning, match="^train: 2 of 3 rows left out: row 0: no image; row 2: no caption$"):
        split = hub(tmp_path, path).split("train")
    assert list(split.image_ids) == ["101"]
    assert list(split.captions) == ["a boat"]
    with pytest.raises(ImageReadError, match="101: cannot be decoded"):
        split.images[0]


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        (
            {"caption": None},
            {},
            "no column of captions among image, sentids, split, img_id, filename; set dataset.capt",
        ),
        (
            {},
            {"caption": "words"},
            "no column 'words', it has image, caption, sentids, split, img_id, filename; set da",
        ),
        ({"image": None, "img": [1] * 6}, {}, r"column 'img' holds Value\(.*int64.*\), expected images or their bytes"),
        ({"caption": [1] * 6}, {}, "column 'caption' holds int, expected a text or a list of texts"),
        ({"split": ["a"] * 6}, {}, "no row of split restval or train, there are a"),
    ],
)
def test_what_a_source_lacks_is_told(tmp_path: Path, changes: dict, settings: dict, message: str):
    with pytest.raises(VSEError, match=message):
        hub(tmp_path, write_parquet(tmp_path / "a.parquet", **changes), **settings).split("train")


def test_what_cannot_be_read_is_one_line(tmp_path: Path):
    (tmp_path / "cut.parquet").write_bytes(write_parquet(tmp_path / "a.parquet").read_bytes()[:500])
    for name, reason in (
        ("cut.parquet", "Parquet magic bytes not found"),
        ("none-*.parquet", "At least one valid data file must be"),
    ):
        with pytest.raises(
            VSEError, match=rf"{name.replace('*', '.')}: .*{reason}.*; expected Parquet files$"
        ) as error:
            hub(tmp_path, tmp_path / name).split("train")
        assert "\n" not in str(error.value)
    with pytest.raises(
        VSEError, match=r"^dataset.source=nobody/nothing: .*; expected a data set of the hub, a folder or"
    ):
        HubDataset(source="nobody/nothing", cache=str(tmp_path)).split("train")  # offline


def test_a_table_can_be_sent_to_a_loader_process(tmp_path: Path):
    split = hub(tmp_path, write_parquet(tmp_path / "a.parquet")).split("test")
    assert torch.equal(pickle.loads(pickle.dumps(split)).images[0], split.images[0])  # noqa: S301, its own
    assert np.array_equal(split.caption_to_image, [0, 1])

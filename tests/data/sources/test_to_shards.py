from pathlib import Path

import pytest

from tests.helpers.tiny_shards import encoded, write_tar
from vse_gpo.data.shards.dataset import ShardsDataset
from vse_gpo.data.sources.run import prepare
from vse_gpo.errors import VSEError

OPTIONS = {
    "seed": 0,
    "image_column": None,
    "caption_column": None,
    "split_column": None,
    "layout": None,
    "to": "shards",
}


def write_source(folder: Path) -> Path:
    """A table beside its images, two captions each."""
    folder.mkdir()
    rows = ["image,caption,split"]
    for row in range(6):
        (folder / f"{row}.png").write_bytes(encoded(row))
        rows += [f"{row}.png,caption {row} {nth},{('train', 'train', 'val', 'test')[row % 4]}" for nth in range(2)]
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder / "captions.csv"


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_table_and_a_tar_become_the_same_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = write_source(tmp_path / "source")
    prepare(source=str(source), out=str(tmp_path / "out"), per_shard=3, **OPTIONS)
    assert capsys.readouterr().out.endswith(
        "train: 4 images, 8 captions\ndev: 1 images, 2 captions\ntest: 1 images, 2 captions\n"
    )
    assert list(written(tmp_path / "out")) == [
        "dev-000000.tar",
        "test-000000.tar",
        "train-000000.tar",
        "train-000001.tar",
    ]
    split = ShardsDataset(sources={"train": str(tmp_path / "out" / "train-*.tar")}, decoded=["train"]).split("train")
    assert list(split.captions) == [f"caption {row} {nth}" for row in (0, 1, 4, 5) for nth in range(2)]
    assert list(split.image_ids) == ["0.png", "1.png", "4.png", "5.png"]
    files = {}
    for row in range(6):
        split_name = ("train", "train", "val", "test")[row % 4]
        text = f'{{"captions": ["caption {row} 0", "caption {row} 1"], "split": "{split_name}"}}'
        files |= {f"{row}.png": encoded(row), f"{row}.json": text.encode()}
    tar = write_tar(tmp_path / "source.tar", files)
    prepare(source=str(tar), out=str(tmp_path / "again"), per_shard=3, **OPTIONS)
    assert {n: d for n, d in written(tmp_path / "again").items() if n.endswith("tar")} == {
        n: d for n, d in written(tmp_path / "out").items() if n.endswith("tar")
    }


def test_the_shards_of_all_splits_are_a_source_again(tmp_path: Path):
    """Keys are told apart by their split, which the names of the tars give back."""
    prepare(source=str(write_source(tmp_path / "source")), out=str(tmp_path / "out"), per_shard=3, **OPTIONS)
    prepare(source=str(tmp_path / "out" / "*.tar"), out=str(tmp_path / "again"), **(OPTIONS | {"to": "files"}))
    for split, rows in {"train": (0, 1, 4, 5), "dev": (2,), "test": (3,)}.items():
        found = (tmp_path / "again" / "precomp" / f"{split}_caps.txt").read_text().splitlines()
        assert found == [f"caption {row} {nth}" for row in rows for nth in range(2)]
    assert (tmp_path / "again" / "images" / "train-000000002.png").read_bytes() == encoded(4)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path):
    source = write_source(tmp_path / "source")
    (tmp_path / "source" / "3.png").unlink()
    with pytest.raises(VSEError, match=r"3\.png|was not found") as error:
        prepare(source=str(source), out=str(tmp_path / "out"), per_shard=3, **OPTIONS)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(VSEError, match="to=tar, expected files or shards"):
        prepare(source=str(source), out=str(tmp_path / "out"), per_shard=3, **(OPTIONS | {"to": "tar"}))

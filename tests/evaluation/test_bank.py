"""Which bank each source takes, and what is refused before any work."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vse_gpo.data.shapes import ShapesDataset
from vse_gpo.errors import VSEError
from vse_gpo.evaluation.bank import BankChoice, DrawnSource, choose_banks


def choose(names: list[str], **given: list[str]) -> list[BankChoice | None]:
    known = {"checkpoints": ["a.ckpt"], "embeddings": [], "protocols": ["all", "all+qbnorm"]} | given
    return choose_banks(names, **known, size=5, seed=3)


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    draws = np.random.default_rng(0)
    for name in ("a.npz", "b.npz"):
        arrays = {f"{kind}_embeddings": draws.standard_normal((9, 4)) for kind in ("image", "caption")}
        np.savez(name, **arrays, caption_to_image=np.arange(9))
    return tmp_path


def test_one_split_serves_all_checkpoints_and_files_serve_their_sources(files):
    assert choose([], protocols=["all"], embeddings=["b.npz"]) == [None, None]
    split = BankChoice(name="train", size=5, seed=3)
    assert choose(["train"], checkpoints=["a", "b"]) == [split, split]
    assert not split.is_file
    both = choose(["train", "a.npz"], embeddings=["b.npz"])
    assert both == [split, BankChoice(name="a.npz", size=5, seed=3)]
    assert len(both[1].read(torch.device("cpu")).embeddings[0]) == 5


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (
            [],
            {},
            r"protocol all\+qbnorm: a correction needs a bank of other pairs; set bank= to a split, such as train",
        ),
        (["train"], {"protocols": ["all"]}, r"bank=train: no protocol has a correction; add one to its name, such as"),
        (["none.npz"], {}, r"bank=none\.npz: no such file"),
        (["a.npz"], {"checkpoints": ["a", "b"]}, r"bank=a\.npz: 1 for 2 sources, expected a split, or a file for each"),
        (["train"], {"embeddings": ["b.npz"]}, r"bank=train for embeddings=b\.npz: expected a file of embeddings"),
    ],
)
def test_a_bank_that_does_not_fit_its_source_is_refused(files, names, given, message):
    with pytest.raises(VSEError, match=message):
        choose(names, **given)


def test_a_file_of_similarities_is_no_bank(files):
    Path("c.npz").write_bytes(b"no archive")
    with pytest.raises(VSEError, match=r"bank: embeddings=c\.npz: damaged or something else"):
        choose(["c.npz"])[0].read(torch.device("cpu"))


def test_a_drawn_split_holds_whole_images():
    whole = ShapesDataset(train=12, dev=1, test=1, size=16, captions=2, seed=0)
    some = DrawnSource(whole, 5, 3).split("train")
    every = whole.split("train")
    assert len(some.images) == len(some.image_ids) == 5
    for caption, image in zip(some.captions, some.caption_to_image.tolist(), strict=True):
        row = every.image_ids.index(some.image_ids[image])
        assert every.caption_to_image[every.captions.index(caption)] == row
        assert torch.equal(some.images[image], every.images[row])
        assert some.images.name(image) == every.images.name(row)
    assert DrawnSource(whole, None, 3).split("train").captions == every.captions

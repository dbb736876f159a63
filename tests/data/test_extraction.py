"""Extraction of features: what is written, and what a killed one leaves to the next."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Never

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.held import holder
from tests.helpers.on_disk import CAPTIONS, FOLDER, write_images, write_texts
from vse_gpo import extract
from vse_gpo.backbones.timm_trunks import timm_grid
from vse_gpo.batch import Features
from vse_gpo.data import extraction
from vse_gpo.data.encoding import Encoding
from vse_gpo.data.files import find_images, read_listing
from vse_gpo.data.images import PrepareImages
from vse_gpo.data.pairs import EvaluationImages
from vse_gpo.data.shapes import ShapesDataset
from vse_gpo.errors import VSEError

IMAGES, SETTINGS = 7, {"backbone": {"cells": 2}, "dtype": "float32"}


class Means(nn.Module):
    """The mean colour of each quarter; fails at a batch if asked to."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__()
        self.fails_at, self.seen = fails_at, 0

    def forward(self, pixels: torch.Tensor) -> Features:
        if self.seen == self.fails_at:
            raise KeyboardInterrupt
        self.seen += 1
        values = nn.functional.adaptive_avg_pool2d(pixels.float(), 2).flatten(2).transpose(1, 2)
        return Features(values, torch.full((len(values),), 4))


@pytest.fixture
def images() -> EvaluationImages:
    split = ShapesDataset(train=0, dev=0, test=IMAGES, size=32, captions=2, seed=0).split("test")
    return EvaluationImages(split, PrepareImages(size=32))


def write(images: EvaluationImages, path: Path, network: nn.Module, settings=SETTINGS, devices=1) -> nn.Module:
    extraction.write_features(
        network,
        images,
        path,
        settings=settings,
        dtype=settings["dtype"],
        encoding=Encoding(batch_size=2, workers=0, devices=devices * [torch.device("cpu")]),
    )
    return network


def test_features_of_every_image_in_order(images, tmp_path):
    write(images, tmp_path / "test_ims.npy", Means())
    found = np.load(tmp_path / "test_ims.npy")
    expected = torch.stack([images[row][0] for row in range(IMAGES)])
    assert found.shape == (IMAGES, 4, 3)
    np.testing.assert_array_equal(found, Means()(expected).values.numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["test_ims.npy"]


def test_two_processes_extract_what_one_does(images, tmp_path):
    for devices in (1, 2):
        write(images, tmp_path / f"{devices}.npy", Means(), devices=devices)
    assert (tmp_path / "1.npy").read_bytes() == (tmp_path / "2.npy").read_bytes()


def test_an_interrupted_extraction_goes_on_where_it_was(images, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "SAVE_EVERY", 0.0)
    write(images, tmp_path / "whole.npy", Means())
    with pytest.raises(KeyboardInterrupt):
        write(images, tmp_path / "test_ims.npy", Means(fails_at=2))
    assert not (tmp_path / "test_ims.npy").exists()
    assert write(images, tmp_path / "test_ims.npy", Means()).seen == 2  # of four batches
    assert (tmp_path / "test_ims.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert write(images, tmp_path / "test_ims.npy", Means()).seen == 0  # nothing is left to do


def test_other_settings_begin_anew(images, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "SAVE_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        write(images, tmp_path / "test_ims.npy", Means(fails_at=2))
    half = {**SETTINGS, "dtype": "float16"}
    assert write(images, tmp_path / "test_ims.npy", Means(), half).seen == 4
    assert np.load(tmp_path / "test_ims.npy").dtype == np.float16


def test_patch_tokens_of_a_transformer_are_features_as_well(images, tmp_path):
    network = timm_grid("test_vit", size=32, pretrained=False, class_token=True).eval()
    write(images, tmp_path / "test_ims.npy", network)
    found = np.load(tmp_path / "test_ims.npy")
    with torch.inference_mode():
        expected = network(torch.stack([images[row][0] for row in range(IMAGES)])).values
    assert found.shape == (IMAGES, 5, 64)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


def nothing_is_built() -> Never:
    raise AssertionError("built before the folder was looked at")


def refused(out: Path, root: Path | None, image_folder: str | None, message: str) -> None:
    with pytest.raises(VSEError, match=message):
        extraction.extract(
            out=str(out),
            root=None if root is None else str(root),
            image_folder=image_folder,
            splits=["train"],
            make_source=nothing_is_built,
            make_prepare=nothing_is_built,
            make_network=nothing_is_built,
            backbone={},
            dtype="float32",
            batch_size=2,
            workers=0,
            accelerator="cpu",
            devices=1,
            precision=32,
        )


def test_a_data_set_without_a_folder_is_refused(tmp_path):
    refused(tmp_path / "out", None, None, "no folder whose captions go with the features; vse-prepare SOURCE DIR")
    assert not (tmp_path / "out").exists()


def test_features_of_another_program_are_kept(tmp_path):
    (tmp_path / "precomp").mkdir()
    (tmp_path / "precomp" / "train_ims.npy").write_bytes(b"features")
    refused(tmp_path, tmp_path, "images", "holds features that this command did not write; name a new folder")
    assert (tmp_path / "precomp" / "train_ims.npy").read_bytes() == b"features"


def extracted(root: Path, out: Path, *changes: str) -> bytes:
    """Features of the train split of a data set of files, by the command."""
    trunk = ["backbone.network.name=test_resnet", "backbone.network.pretrained=false", "backbone.prepare.size=64"]
    places = ["dataset=own", f"dataset.root={root}", f"dataset.image_folder={FOLDER}", f"out={out}", "splits=[train]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vse-extract", *places, *trunk, "workers=0", "accelerator=cpu", *changes])
        extract.main()
    return (out / "precomp" / "train_ims.npy").read_bytes()


def test_features_may_lie_beside_their_captions_and_are_of_their_images_alone(tmp_path, capsys):
    root, out = tmp_path / "data", tmp_path / "out"
    write_texts(root)
    write_images(root, list(CAPTIONS))
    features = extracted(root, out)
    assert extracted(root, out) == features  # nothing is left to do
    split = read_listing(out, "train")
    assert find_images(out, FOLDER, split) == find_images(root, FOLDER, split)  # to be shown
    assert (out / FOLDER).resolve() == (root / FOLDER).resolve()
    with pytest.raises(SystemExit):
        extracted(root, out, "dtype=float16")
    assert "features in float32, expected dtype=float16; name a new folder" in capsys.readouterr().err
    assert len(extracted(root, root)) == len(features)
    assert (root / "precomp" / "train_caps.txt").is_file()

    turned = dict(reversed(CAPTIONS.items()))
    write_texts(root, captions=turned)
    for folder in (out, root):
        with pytest.raises(SystemExit):
            extracted(root, folder)
        assert "features of other images than train has now; name a new folder" in capsys.readouterr().err
    assert read_listing(out, "train").image_ids == list(CAPTIONS)


def test_without_links_or_files_names_are_shown(tmp_path, monkeypatch):
    root, out = tmp_path / "data", tmp_path / "out"
    root.mkdir()
    out.mkdir()
    extraction.point_to_images(root, out, FOLDER)
    assert not any(out.iterdir())
    write_images(root, list(CAPTIONS))
    monkeypatch.setattr(Path, "symlink_to", lambda *_, **__: (tmp_path / "none").readlink())
    with pytest.warns(UserWarning, match="no link to .* can be made .*; results will show the images' names"):
        extraction.point_to_images(root, out, FOLDER)
    assert [path.name for path in out.iterdir()] == ["id_mapping.json"]


def test_a_folder_that_another_process_fills_is_left_to_it(tmp_path, capsys):
    root, out = tmp_path / "data", tmp_path / "out"
    write_texts(root)
    write_images(root, list(CAPTIONS))
    with holder(out), pytest.raises(SystemExit):
        extracted(root, out)
    assert "is at work in it; wait for its end, or name another folder" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [".lock"]


@pytest.mark.parametrize(("call", "times", "kept"), [("posix_fallocate", 0, 0), ("fsync", 4, 2)])
def test_a_full_disk_is_told_and_leaves_only_what_can_be_resumed(images, tmp_path, monkeypatch, call, times, kept):
    real, calls = getattr(os, call), []

    def full(*arguments: int) -> None:
        calls.append(arguments)
        if len(calls) > times:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(extraction, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(os, call, full)
    with pytest.raises(VSEError, match=r"part\.npy: cannot be written .*No space left"):
        write(images, tmp_path / "test_ims.npy", Means())
    monkeypatch.setattr(os, call, real)
    assert len(list(tmp_path.iterdir())) == kept
    assert write(images, tmp_path / "test_ims.npy", Means()).seen == (4 - kept)  # of four batches
    write(images, tmp_path / "whole.npy", Means())
    assert (tmp_path / "test_ims.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


KILLED = """
    import os, signal, sys
    from pathlib import Path
    import torch
    from tests.data.test_extraction import IMAGES, SETTINGS, Means, write
    from vse_gpo.data import extraction
    from vse_gpo.data.images import PrepareImages
    from vse_gpo.data.pairs import EvaluationImages
    from vse_gpo.data.shapes import ShapesDataset

    class Killed(Means):
        def forward(self, pixels):
            if self.seen == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().forward(pixels)

    extraction.SAVE_EVERY = 0.0
    split = ShapesDataset(train=0, dev=0, test=IMAGES, size=32, captions=2, seed=0).split("test")
    write(EvaluationImages(split, PrepareImages(size=32)), Path(sys.argv[1]), Killed())
"""


def test_a_killed_extraction_goes_on_where_it_was(images, tmp_path, monkeypatch):
    path = tmp_path / "test_ims.npy"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(path)], cwd=root, env=os.environ, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert json.loads(path.with_suffix(".progress.json").read_text())["rows"] == 4
    assert write(images, path, Means()).seen == 2
    write(images, tmp_path / "whole.npy", Means())
    assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()

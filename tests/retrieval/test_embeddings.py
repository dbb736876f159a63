import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.embeddings import read_encoded, write_embeddings

INDEX = np.array([0, 0, 1, 2])


def arrays(**changed):
    random = np.random.default_rng(0)
    whole = {
        "image_embeddings": 3 * random.standard_normal((3, 5)).astype(np.float32),
        "caption_embeddings": random.standard_normal((4, 5)).astype(np.float32),
        "caption_to_image": INDEX,
        "image_ids": np.array(["a", "b", "c"]),
    }
    return {name: value for name, value in (whole | changed).items() if value is not None}


def test_npz_and_safetensors_hold_the_same_and_are_scaled_to_unit_length(tmp_path):
    np.savez(tmp_path / "clip.npz", **arrays())
    tensors = {name: torch.from_numpy(value) for name, value in arrays(image_ids=None).items()}
    save_file(tensors, tmp_path / "clip.safetensors", metadata={"image_ids": json.dumps(["a", "b", "c"])})
    everywhere = (slice(0, 3), slice(0, 4))
    first, second = (read_encoded(tmp_path / name) for name in ("clip.npz", "clip.safetensors"))
    tile = first.similarities.image_caption.tile(*everywhere)
    assert torch.equal(tile, second.similarities.image_caption.tile(*everywhere))
    assert tile.abs().max() <= 1 + 1e-6
    assert first.image_ids == second.image_ids == ["a", "b", "c"]
    assert first.caption_to_image.tolist() == INDEX.tolist()


def test_what_is_written_is_read_again(tmp_path):
    written = arrays()
    write_embeddings(tmp_path / "ours.npz", **{**written, "image_ids": ["a", "b", "c"]})
    assert [path.name for path in tmp_path.iterdir()] == ["ours.npz"]
    assert read_encoded(tmp_path / "ours.npz").image_ids == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"caption_to_image": None}, "no caption_to_image, only"),
        ({"caption_to_image": np.array([0, 1])}, r"caption_to_image has shape \(2,\)"),
        ({"caption_to_image": np.array([0.0, 0.0, 1.0, 2.0])}, "of float64"),
        ({"image_ids": np.array(["a"])}, "1 image_ids for 3 rows"),
        ({"image_embeddings": np.zeros((3, 4), np.float32)}, "with the same E"),
        ({"image_embeddings": np.zeros((3, 5), np.int64)}, "expected floats"),
        ({"image_embeddings": np.full((3, 5), np.nan, np.float32)}, "image embedding 0 holds NaN"),
        ({"image_ids": np.array(["a", {}, 3], dtype=object)}, "damaged or something else"),
    ],
)
def test_parts_that_do_not_fit_are_named(changed, message, tmp_path):
    np.savez(tmp_path / "clip.npz", **arrays(**changed))
    with pytest.raises(VSEError, match=message) as error:
        read_encoded(tmp_path / "clip.npz")
    assert "clip.npz" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["clip.npz", "clip.safetensors", "clip.npy"])
@pytest.mark.parametrize("kept", [0, 10, 200])
def test_truncated_files_give_one_line(name, kept, tmp_path):
    path = tmp_path / name
    if name.endswith("npz"):
        np.savez(path, **arrays())
    elif name.endswith("npy"):
        np.save(path, np.zeros((3, 6)))
    else:
        save_file({"image_embeddings": torch.ones(3, 5)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(VSEError, match=name) as error:
        read_encoded(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_another_kind_are_named(tmp_path):
    with pytest.raises(VSEError, match="no such file"):
        read_encoded(tmp_path / "clip.npz")
    with pytest.raises(VSEError, match=r"ends in \.npz"):
        read_encoded(tmp_path / "clip.pt")


def test_similarities_of_the_released_program_are_read_without_running_code(tmp_path):
    values = np.random.default_rng(0).standard_normal((3, 6))
    np.save(tmp_path / "results.npy", {"npts": 3, "sims": values}, allow_pickle=True)
    np.save(tmp_path / "plain.npy", values)
    for name in ("results.npy", "plain.npy"):
        encoded = read_encoded(tmp_path / name)
        assert torch.equal(
            encoded.similarities.image_caption.exact_tile(slice(0, 3), slice(0, 6)), torch.from_numpy(values)
        )
        assert encoded.caption_to_image.tolist() == [0, 0, 1, 1, 2, 2]
        assert encoded.similarities.image_image is None


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_a_pickle_of_anything_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("bomb.npy", {"npts": 3, "sims": Bomb()}, allow_pickle=True)
    with pytest.raises(VSEError, match=r"refused, it holds (posix|nt)\.system"):
        read_encoded("bomb.npy")
    np.save("other.npy", {"npts": 3}, allow_pickle=True)
    with pytest.raises(VSEError, match="damaged or something else"):
        read_encoded("other.npy")
    Path("pickle.npy").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(VSEError, match=r"pickle\.npy"):
        read_encoded("pickle.npy")
    assert not Path("exploded").exists()


def test_a_matrix_needs_equally_many_captions(tmp_path):
    np.save(tmp_path / "odd.npy", np.zeros((3, 7)))
    with pytest.raises(VSEError, match="equally many captions"):
        read_encoded(tmp_path / "odd.npy")


def test_a_file_of_another_scale_gives_the_same_similarities(tmp_path):
    everywhere = (slice(0, 3), slice(0, 4))
    tiles = []
    for scale in (1.0, 1e-30, 1e30):
        whole = arrays()
        changed = {name: (whole[name] * scale).astype(">f4") for name in ("image_embeddings", "caption_embeddings")}
        np.savez(tmp_path / "other.npz", **(whole | changed))
        tiles.append(read_encoded(tmp_path / "other.npz").similarities.image_caption.exact_tile(*everywhere))
    torch.testing.assert_close(tiles[1], tiles[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(tiles[2], tiles[0], atol=1e-6, rtol=0)


def test_a_matrix_in_another_byte_order_or_precision_is_read(tmp_path):
    values = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    for kind in (">f4", ">f8", "longdouble"):
        np.save(tmp_path / "sims.npy", values.astype(np.dtype(kind)))
        tile = read_encoded(tmp_path / "sims.npy").similarities.image_caption.tile(slice(0, 3), slice(0, 6))
        assert np.array_equal(tile.numpy(), values)


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_embeddings(Path("~/ours.npz"), **{**arrays(), "image_ids": ["a", "b", "c"]})
    assert read_encoded("~/ours.npz").image_ids == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.array([b"\xff", b"a", b"b"]), "image_ids that are not UTF-8"),
        (np.eye(3), "image_ids that are no list of texts or numbers, expected one for each of 3 rows"),
        (np.array(3), "image_ids that are no list"),
    ],
)
def test_ids_of_another_kind_are_refused(ids, message, tmp_path):
    np.savez(tmp_path / "e.npz", **arrays(image_ids=ids))
    with pytest.raises(VSEError, match=message):
        read_encoded(tmp_path / "e.npz")


@pytest.mark.parametrize("ids", ["5", '{"a": 1}', "[" * 100_000])
def test_ids_in_metadata_are_a_list(ids, tmp_path):
    tensors = {name: torch.from_numpy(value) for name, value in arrays(image_ids=None).items()}
    save_file(tensors, tmp_path / "e.safetensors", metadata={"image_ids": ids})
    with pytest.raises(VSEError, match="damaged or something else"):
        read_encoded(tmp_path / "e.safetensors")


def test_a_header_that_asks_for_more_than_any_memory_gives_one_line(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000, 1000000000), }".ljust(117) + b"\n"
    (tmp_path / "m.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(VSEError, match="damaged or something else"):
        read_encoded(tmp_path / "m.npy")

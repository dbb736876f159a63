"""What an interrupted index leaves for the next one."""

import pytest
import torch

from tests.helpers.photo_folder import paint
from vse_gpo.errors import VSEError
from vse_gpo.search.parts import Parts
from vse_gpo.search.pictures import EmbeddedImages, find_pictures


def test_parts_are_kept_and_read_again(tmp_path):
    paint(tmp_path / "a.png", 1), paint(tmp_path / "b.png", 2)
    [a, b] = find_pictures(tmp_path).pictures
    parts = Parts(tmp_path / "parts", "ours")
    assert parts.read() == {}
    parts.write([EmbeddedImages([a], torch.ones(1, 3), {}), EmbeddedImages([], torch.empty(0, 0), {"c.png": "broken"})])
    parts.write([EmbeddedImages([], torch.empty(0, 0), {})])  # nothing to keep
    parts.write([EmbeddedImages([b], 2 * torch.ones(1, 3), {})])
    rows = parts.read()
    assert {picture: found.embeddings[found.row].tolist() for picture, found in rows.items()} == {
        a: [1] * 3,
        b: [2] * 3,
    }
    assert rows[a].sizes() == (0, 3 * 4)
    with pytest.raises(VSEError, match="left by an unfinished index of another model"):
        Parts(tmp_path / "parts", "theirs").read()
    flipped = bytearray((tmp_path / "parts" / "000000.safetensors").read_bytes())
    flipped[-1] ^= 1
    for content in (b"cut", flipped):
        (tmp_path / "parts" / "000000.safetensors").write_bytes(content)
        with pytest.raises(VSEError, match=r"000000\.safetensors: damaged .*; remove it"):
            parts.read()
    (tmp_path / "parts" / "000000.safetensors").unlink()
    parts.write([EmbeddedImages([a], torch.zeros(1, 3), {})])
    assert parts.read().keys() == {a, b}
    parts.remove()
    assert not (tmp_path / "parts").exists()

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vse_gpo.data.packed import PackedTexts, TextPacker

TEXTS = ["a dog", "", "über – 犬", "\n"]


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=6), start=st.integers(0, 6)
)
def test_texts_come_out_as_they_went_in(texts: list[str], start: int) -> None:
    packed = PackedTexts.of(texts)
    assert list(packed) == texts
    assert list(packed[start:]) == texts[start:]
    packer = TextPacker()
    for part in (packed[start:], packed[:0], packed):
        packer.add(part)
    assert list(packer.packed()) == texts[start:] + texts


def test_they_are_a_sequence():
    packed = PackedTexts.of(TEXTS)
    assert packed[-1] == "\n"
    assert [packed.index("a dog"), "a cat" in packed, len(packed[1:3])] == [0, False, 2]
    with pytest.raises(IndexError):
        packed[4]
    with pytest.raises(ValueError, match="a step of 2"):
        packed[::2]

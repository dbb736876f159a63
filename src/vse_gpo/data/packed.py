"""Many short texts in one buffer: a million captions take little more than their bytes."""

from array import array
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt


class PackedTexts(Sequence[str]):
    """Texts behind each other in UTF-8; a slice of them shares the buffer.

    Args:
        data: their bytes.
        bounds: where each begins in the bytes, and where the last ends.
    """

    def __init__(self, data: npt.NDArray[np.uint8], bounds: npt.NDArray[np.int64]) -> None:
        self.data = data
        self.bounds = bounds

    @classmethod
    def of(cls, texts: Iterable[str]) -> "PackedTexts":
        """Pack texts."""
        encoded = [text.encode() for text in texts]
        bounds = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), bounds)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> "PackedTexts": ...
    def __getitem__(self, place: int | slice) -> "str | PackedTexts":
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                raise ValueError(f"a step of {step}, expected texts one after the other")
            return PackedTexts(self.data, self.bounds[start : max(start, stop) + 1])
        row = range(len(self))[place]  # raises IndexError, and counts from the end
        return self.data[self.bounds[row] : self.bounds[row + 1]].tobytes().decode()


class TextPacker:
    """Packs texts part by part, without ever holding them twice."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._bounds = array("q", [0])

    def add(self, texts: PackedTexts) -> None:
        """Append texts."""
        first, last = texts.bounds[[0, -1]]
        self._bounds.frombytes((texts.bounds[1:] + (len(self._data) - first)).tobytes())
        self._data += texts.data[first:last].data

    def packed(self) -> PackedTexts:
        """All of them; nothing can be added any more."""
        return PackedTexts(np.frombuffer(self._data, dtype=np.uint8), np.frombuffer(self._bounds, dtype=np.int64))

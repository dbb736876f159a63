"""Where the bank of a correction comes from: a split that the model encodes, or a file of its embeddings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vse_gpo.data.datamodule import Source
from vse_gpo.data.split import Split
from vse_gpo.errors import VSEError
from vse_gpo.retrieval.banks import drawn, drawn_rows
from vse_gpo.retrieval.embeddings import Encoded, read_encoded
from vse_gpo.retrieval.protocols import NO_BANK, PLUS

FILES = (".npz", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class BankChoice:
    """The bank of one source.

    Args:
        name: of a split, or of a file of embeddings.
        size: number of images at most; None for all.
        seed: draws them.
    """

    name: str
    size: int | None
    seed: int

    @property
    def is_file(self) -> bool:
        """Whether it is a file of embeddings."""
        return self.name.endswith(FILES)

    def read(self, device: torch.device) -> Encoded:
        """The drawn pairs of the file.

        Raises:
            VSEError: if the file holds no embeddings.
        """
        try:
            return drawn(read_encoded(self.name, device), self.size, self.seed)
        except VSEError as error:
            raise VSEError(f"bank: {error}") from error

    def source(self, make_source: Callable[[Mapping[str, Any]], Source]) -> Callable[[Mapping[str, Any]], Source]:
        """Builds the data set whose splits are drawn from those of another."""
        return lambda settings: DrawnSource(make_source(settings), self.size, self.seed)


@dataclass(frozen=True)
class DrawnSource:
    """A data set of which each split holds at most so many images, drawn with their captions.

    Args:
        source: the whole data set.
        size: number of images; None for all.
        seed: draws them.
    """

    source: Source
    size: int | None
    seed: int

    def split(self, name: str) -> Split:
        """The drawn part of a split."""
        whole = self.source.split(name)
        return whole.some(drawn_rows(len(whole.images), self.size, self.seed))


def choose_banks(
    names: Sequence[str],
    *,
    checkpoints: Sequence[str],
    embeddings: Sequence[str],
    protocols: Sequence[str],
    size: int | None,
    seed: int,
) -> list[BankChoice | None]:
    """The bank of every checkpoint and then of every file of embeddings; None for all if no protocol has a correction.

    Args:
        names: of splits or files: one for all sources, or one for each.
        checkpoints, embeddings: the sources.
        protocols: names of protocols.
        size, seed: see ``BankChoice``.

    Raises:
        VSEError: if there is no bank for a correction, no correction for a bank, or a bank that a source cannot take.
    """
    needing = [name for name in protocols if PLUS in name]
    sources = [*checkpoints, *embeddings]
    if not names:
        if needing:
            raise VSEError(f"protocol {needing[0]}: {NO_BANK}")
        return [None] * len(sources)
    if not needing:
        raise VSEError(f"bank={names[0]}: no protocol has a correction; add one to its name, such as all+qbnorm")
    banks = [BankChoice(name=name, size=size, seed=seed) for name in names]
    files = [bank.name for bank in banks if bank.is_file]
    for name in files:
        if not Path(name).expanduser().is_file():
            raise VSEError(f"bank={name}: no such file")
    if len(banks) == 1 and not files:
        banks *= len(sources)
    if len(banks) != len(sources):
        raise VSEError(
            f"bank={','.join(names)}: {len(banks)} for {len(sources)} sources, expected a split, or a file for each: a "
            "bank is embedded by the source's own model"
        )
    for bank, name in zip(banks[len(checkpoints) :], embeddings, strict=True):
        if not bank.is_file:
            raise VSEError(
                f"bank={bank.name} for embeddings={name}: expected a file of embeddings of the same model, .npz or "
                ".safetensors"
            )
    return list(banks)

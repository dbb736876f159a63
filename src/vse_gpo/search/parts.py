"""What an index is to hold, on disk until it is written, so that an interrupted run resumes."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vse_gpo.errors import VSEError, first_line
from vse_gpo.search.items import Compaction, ItemSets, Records, records_of
from vse_gpo.search.pictures import EmbeddedImages
from vse_gpo.search.stored import Picture
from vse_gpo.storage.weights import HASH, hash_of
from vse_gpo.storage.writing import whole_file


class Embedding(NamedTuple):
    """Where the embedding of an image is, and its set of items if there are any."""

    embeddings: npt.NDArray[np.float32]
    records: Records | None
    row: int  # in both

    def sizes(self) -> tuple[int, int]:
        """Bytes of the set of items, 0 without one, and of the embedding."""
        return 0 if self.records is None else self.records.dtype.itemsize, self.embeddings[self.row].nbytes


Rows = dict[Picture, Embedding]


class Parts:
    """Embeddings on disk until the index is written, so that an interrupted run resumes.

    Args:
        folder: folder of the parts.
        fingerprint: fingerprint of the model.
        compaction: how the items are stored; None keeps none.
    """

    def __init__(self, folder: Path, fingerprint: str, compaction: Compaction | None = None) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.compaction = repr(compaction)

    def read(self) -> Rows:
        """Where the embedding of each image is.

        Raises:
            VSEError: if a part is damaged, or another model made it.
        """
        rows: Rows = {}
        for path in self._paths():
            try:
                with safe_open(path, "pt") as part:
                    about, tensors = part.metadata(), _tensors(part)
                whole = hash_of(tensors, about["pictures"].encode())
                if about.get(HASH, whole) != whole:  # parts of earlier versions have none
                    raise ValueError("its embeddings have changed on the disk")
                pictures = [Picture(*row) for row in json.loads(about["pictures"])]
                fingerprint, compaction = about["fingerprint"], about.get("compaction", repr(None))
                embeddings = tensors.pop("embeddings").numpy()
                records = records_of(ItemSets(**tensors)) if tensors else None
            except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
                raise VSEError(f"{path}: damaged ({first_line(error)}); remove it") from error
            if fingerprint != self.fingerprint:
                raise VSEError(
                    f"{self.folder}: left by an unfinished index of another model ({fingerprint[:12]}, this is "
                    f"{self.fingerprint[:12]}); resume with that model, or remove the folder"
                )
            if compaction != self.compaction:
                raise VSEError(
                    f"{self.folder}: left by an unfinished index with other items ({compaction}, now "
                    f"{self.compaction}); resume with the same items= and item_dtype=, or remove the folder"
                )
            rows |= {picture: Embedding(embeddings, records, row) for row, picture in enumerate(pictures)}
        return rows

    def write(self, batches: Sequence[EmbeddedImages]) -> None:
        """Write one more part, whole or not at all."""
        filled = [batch for batch in batches if batch.pictures]
        if not filled:
            return
        pictures = [picture for batch in filled for picture in batch.pictures]
        tensors = {"embeddings": torch.cat([batch.embeddings for batch in filled])}
        sets = [batch.sets for batch in filled if batch.sets is not None]
        if sets:
            tensors |= dict(zip(ItemSets._fields, map(torch.cat, zip(*sets, strict=True)), strict=True))
        about = {"fingerprint": self.fingerprint, "pictures": json.dumps(pictures), "compaction": self.compaction}
        about[HASH] = hash_of(tensors, about["pictures"].encode())
        number = 1 + max((int(path.stem) for path in self._paths()), default=-1)
        with whole_file(self.folder / f"{number:06d}.safetensors") as file:
            file.write(save(tensors, about))

    def remove(self) -> None:
        """Remove all parts."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.safetensors"))


def _tensors(part: Any) -> dict[str, torch.Tensor]:
    names = part.keys()
    return {name: part.get_tensor(name) for name in names}

"""Exact search on a GPU, with the answers that FAISS gives on a CPU."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vse_gpo.search.kinds import faiss

MARGIN = 2e-3  # more than a score of unit embeddings can be wrong by, even in TF32
QUERIES = 64  # at once: their scores are in memory


class DeviceScan:
    """Compares every embedding on a device; FAISS scores and orders what is near the best.

    The result is FAISS's own, ties included. The rows whose scores on the device are within a margin of the last of the
    best hold all that FAISS would give, and among them FAISS decides as it does among all rows.

    Args:
        exact: every embedding, for FAISS.
        embeddings: the same.
        device: that holds them and compares.
    """

    def __init__(self, exact: faiss.IndexFlatIP, embeddings: npt.NDArray[np.float32], device: torch.device) -> None:
        self.exact = exact
        self._columns = torch.from_numpy(embeddings).to(device, copy=True).T

    def search(
        self, queries: npt.NDArray[np.float32], top: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Scores and rows of the best ``top`` for each query, as ``faiss.Index.search`` gives them."""
        found = [
            self._refined(query, near.nonzero()[:, 0].cpu().numpy(), top)
            for first in range(0, len(queries), QUERIES)
            for query, near in zip(
                queries[first : first + QUERIES], self._near(queries[first : first + QUERIES], top), strict=True
            )
        ]
        scores, rows = zip(*found, strict=True)
        return np.stack(scores), np.stack(rows)

    def _near(self, queries: npt.NDArray[np.float32], top: int) -> Tensor:
        """(queries, images): which of them score within the margin of the last best one."""
        scores = torch.from_numpy(queries).to(self._columns.device) @ self._columns
        return scores >= scores.topk(top).values[:, -1:] - MARGIN

    def _refined(
        self, query: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], top: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """FAISS's answer among some rows, which are in order."""
        near = faiss.IndexFlatIP(self.exact.d)
        near.add(self.exact.reconstruct_batch(rows))
        [scores], [places] = near.search(query[None], top)
        return scores, rows[places]

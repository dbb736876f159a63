"""Copies among photos: exact ones by their content, near ones by what is seen. Functions of arrays, in blocks."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Groups = list[list[int]]  # rows of images that are copies of one another
Rows = Int[npt.NDArray[np.integer], " _"]
BLOCK = 2**20  # pairs of hashes that are compared at once: 8 MB
COMPARED = 2**16  # pairs of embeddings that are compared at once
SAMPLED = 20_000  # pairs of images that say how far apart two images usually are
USUAL_BITS = 20  # bits of a hash that count as much as the usual distance of embeddings
SMALLEST = 1e-6  # distance of embeddings that rounding may give to equal ones


class NearPairs(NamedTuple):
    """Pairs of images that look alike; the first row is the smaller one."""

    first: Rows
    second: Rows
    bits: Int[npt.NDArray[np.integer], " _"]  # of the perceptual hashes that differ
    distances: Float[npt.NDArray[np.floating], " _"]  # of the embeddings, as a part of the usual one
    differences: Float[npt.NDArray[np.floating], " _"]  # both as one number; see ``near_copies``


def exact_copies(hashes: Sequence[str]) -> Groups:
    """Groups of rows with equal content, in order of their first rows.

    Args:
        hashes: of the content of each file.
    """
    rows: dict[str, list[int]] = {}
    for row, digest in enumerate(hashes):
        rows.setdefault(digest, []).append(row)
    return [group for group in rows.values() if len(group) > 1]


def near_copies(
    phashes: Int64[npt.NDArray[np.int64], " images"],
    embeddings: Float[npt.NDArray[np.float32], "images dim"],
    *,
    limit: float,
    random: np.random.Generator,
) -> NearPairs:
    """Pairs of images that differ little: in bits of their perceptual hashes plus 20 times the distance of embeddings.

    A distance is 1 − cosine, as a part of the usual one (see ``usual_distance``), which makes models alike. Neither
    measure does on its own: a hash takes any two images of one layout for copies, an embedding any two of one scene,
    while a border changes the hash, and a smaller size the embedding. Every pair of hashes is compared, at a
    nanosecond or two each, and the embeddings only of pairs whose hashes are near.

    Args:
        phashes: of the images.
        embeddings: unit vectors.
        limit: largest difference.
        random: draws the sample of pairs that is usual.
    """
    usual = usual_distance(embeddings, random)
    none = np.empty(0, np.int64)
    found = [NearPairs(none, none, none, np.empty(0), np.empty(0))]
    for first, second, bits in near_hashes(phashes, int(limit)):
        for start in range(0, len(first), COMPARED):
            some = slice(start, start + COMPARED)
            cosines = np.einsum("ij,ij->i", embeddings[first[some]], embeddings[second[some]])
            distances = np.maximum(1 - cosines.astype(np.float64), 0) / usual
            differences = bits[some] + USUAL_BITS * distances
            pairs = NearPairs(first[some], second[some], bits[some], distances, differences)
            found.append(NearPairs(*(part[differences <= limit] for part in pairs)))
    return NearPairs(*map(np.concatenate, zip(*found, strict=True)))


def near_hashes(phashes: Int64[npt.NDArray[np.int64], " images"], bits: int) -> Iterator[tuple[Rows, Rows, Rows]]:
    """Pairs of hashes that differ in few bits, block by block: rows of the first, rows of the second, bits.

    Args:
        phashes: of the images.
        bits: that may differ.
    """
    values, count = phashes.view(np.uint64), len(phashes)
    step = max(1, BLOCK // max(1, count))
    for start in range(0, count, step):
        differing = np.bitwise_count(values[start : start + step, None] ^ values[None, start:])
        first, second = np.nonzero(differing <= bits)
        ahead = second > first
        first, second = first[ahead], second[ahead]
        yield first + start, second + start, differing[first, second].astype(np.int64)


def usual_distance(embeddings: Float[npt.NDArray[np.float32], "images dim"], random: np.random.Generator) -> float:
    """Median of 1 − cosine over pairs of different rows, or what rounding may give if it is less.

    Each model spreads images differently: what is near is measured against it.

    Args:
        embeddings: unit vectors.
        random: draws the pairs.
    """
    count = len(embeddings)
    if count < 2:
        return SMALLEST
    first = random.integers(count, size=SAMPLED)
    second = (first + random.integers(1, count, size=SAMPLED)) % count
    return max(SMALLEST, float(np.median(1 - np.einsum("ij,ij->i", embeddings[first], embeddings[second]))))


def groups_of(pairs: NearPairs, count: int) -> Groups:
    """Rows that pairs join, directly or by way of others, in order of their first rows.

    Args:
        pairs: of rows.
        count: all rows.
    """
    joined = coo_array((np.ones(len(pairs.first), np.bool_), (pairs.first, pairs.second)), shape=(count, count))
    _, labels = connected_components(joined, directed=False)
    rows: dict[int, list[int]] = {}
    for row in np.unique(np.concatenate([pairs.first, pairs.second])).tolist():
        rows.setdefault(int(labels[row]), []).append(row)
    return [*rows.values()]


def without_copies(groups: Groups, count: int) -> Bool[npt.NDArray[np.bool_], " count"]:
    """Which rows are left if only the first of each group is kept.

    Args:
        groups: of exact copies.
        count: all rows.
    """
    kept = np.ones(count, np.bool_)
    kept[[row for group in groups for row in group[1:]]] = False
    return kept

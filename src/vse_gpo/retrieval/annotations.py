"""Positives that annotators found beyond COCO's own pairs: Crisscrossed Captions and ECCV Caption, by COCO ids."""

import csv
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.counts import Pairs

IdPairs = list[tuple[int, int]]
POSITIVE_CAPTION, POSITIVE_IMAGE = 3.0, 2.5  # ratings from which a pair is positive (Parekh et al. 2021)
ORIGINAL = 5.0  # score of COCO's own pairs


class Ratings(NamedTuple):
    """Pairs that annotators rated from 0 to 5."""

    pairs: IdPairs
    scores: list[float]


@dataclass(frozen=True, kw_only=True)
class CrisscrossedCaptions:
    """Positives of each direction, query id first, and ratings by task.

    Args:
        variant: where the positives come from and which count.
        i2t, t2i, t2t, i2i: (query, positive) by direction.
        sits, sis, sts: rated (caption, image), (image, image) and (caption, caption).
    """

    variant: str
    i2t: IdPairs
    t2i: IdPairs
    t2t: IdPairs  # besides captions of the same image
    i2i: IdPairs
    sits: Ratings | None = None
    sis: Ratings | None = None
    sts: Ratings | None = None


class CocoRows:
    """Rows of COCO's images and captions in the evaluated data.

    Args:
        image_ids, caption_ids: per row: a COCO id, or a file name or key that ends in it.

    Raises:
        VSEError: if an id has no number, or two rows have the same id.
    """

    def __init__(self, image_ids: Sequence[str], caption_ids: Sequence[str]) -> None:
        self.images = _rows("image", image_ids)
        self.captions = _rows("caption", caption_ids)

    def of(self, direction: str, pairs: IdPairs, source: str) -> Pairs:
        """Pairs of a direction as rows.

        Raises:
            VSEError: if an id is not among the rows.
        """
        queries, items = self.tables(direction)
        return Pairs(
            _find(queries, [query for query, _ in pairs], source), _find(items, [item for _, item in pairs], source)
        )

    def in_gallery(self, direction: str, pairs: IdPairs) -> IdPairs:
        """Pairs whose item is among the rows; if these are not over 99 %, all pairs."""
        _, items = self.tables(direction)
        inside = [pair for pair in pairs if pair[1] in items]
        return inside if len(inside) > 0.99 * len(pairs) else pairs

    def tables(self, direction: str) -> tuple[dict[int, int], dict[int, int]]:
        """Id → row, for a direction's queries and for its items."""
        tables = {"i": self.images, "t": self.captions}
        return tables[direction[0]], tables[direction[-1]]


def _rows(what: str, ids: Sequence[str]) -> dict[int, int]:
    rows: dict[int, int] = {}
    for row, name in enumerate(ids):
        if rows.setdefault(coco_id(name), row) != row:
            raise VSEError(
                f"{what} id {name} occurs twice, in rows {rows[coco_id(name)]} and {row}; expected each once"
            )
    return rows


def _find(table: Mapping[int, int], ids: Sequence[int], source: str) -> torch.Tensor:
    try:
        return torch.tensor([table[one] for one in ids], dtype=torch.long)
    except KeyError as error:
        unknown = {one for one in ids if one not in table}
        raise VSEError(
            f"{source} annotates {len(unknown)} ids that are not among the {len(table)} evaluated, first {error}; it "
            "covers COCO's 5,000 test images and their 25,000 captions, by their COCO ids"
        ) from error


def coco_id(name: str) -> int:
    """Number at the end of a COCO id, key or file name: COCO_val2014_000000391895.jpg → 391895.

    Raises:
        VSEError: if the name does not end in a number.
    """
    match = re.search(r"(\d+)(?:\.\w+)?$", str(name).strip())
    if match is None:
        raise VSEError(f"id {name!r} ends in no number, expected a COCO id as 391895 or COCO_val2014_000000391895.jpg")
    return int(match[1])


def read_crisscrossed(folder: str | Path, *, threshold_originals: bool = False) -> CrisscrossedCaptions:
    """Read the annotations in a folder: those that VSE∞'s authors released, or the public CSV files of the test split.

    Args:
        folder: holds cxc_it.json, cxc_i2i.json and cxc_t2t.json, or sits_test.csv, sis_test.csv and sts_test.csv.
        threshold_originals: with CSV files, drop COCO's own pairs rated below 3.0, as the package eccv-caption does.
            28 captions then have no positive.

    Raises:
        VSEError: if the folder holds neither set of files, or a file cannot be read.
    """
    folder = Path(folder).expanduser()
    if (folder / "cxc_it.json").is_file():
        return _read_released(folder)
    if (folder / "sits_test.csv").is_file():
        return _read_public(folder, threshold_originals)
    raise VSEError(
        f"cxc={folder}: neither cxc_it.json nor sits_test.csv there; fetch sits_test.csv, sis_test.csv and "
        "sts_test.csv of Crisscrossed-Captions (Google Research), or the cxc_annots of VSE∞'s authors"
    )


def _read_released(folder: Path) -> CrisscrossedCaptions:
    crossed = {name: read_json(folder / f"cxc_{name}.json") for name in ("it", "i2i", "t2t")}

    def pairs(listed: Mapping[str, Any], least: float = -np.inf) -> IdPairs:
        return [(int(query), int(item)) for query, items in listed.items() for item, score in items if score >= least]

    try:
        return CrisscrossedCaptions(
            variant="released annotations",
            i2t=pairs(crossed["it"]["i2t"]),
            t2i=pairs(crossed["it"]["t2i"]),
            t2t=pairs(crossed["t2t"], POSITIVE_CAPTION),
            i2i=pairs(crossed["i2i"], POSITIVE_IMAGE),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VSEError(
            f"{folder}: cxc_*.json hold something else ({type(error).__name__}: {error}), expected {{query id: "
            "[[id, score]]}"
        ) from error


def _read_public(folder: Path, threshold_originals: bool) -> CrisscrossedCaptions:
    sits, sits_method = _read_csv(folder / "sits_test.csv")
    sis, _ = _read_csv(folder / "sis_test.csv")
    sts, _ = _read_csv(folder / "sts_test.csv")
    t2i = [
        pair
        for pair, score, method in zip(sits.pairs, sits.scores, sits_method, strict=True)
        if score >= POSITIVE_CAPTION or (method == "c2i_original" and not threshold_originals)
    ]
    return CrisscrossedCaptions(
        variant=f"public CSV files, {'all pairs' if threshold_originals else 'new pairs'} from 3.0",
        i2t=[(image, caption) for caption, image in t2i],
        t2i=t2i,
        t2t=_both_ways([pair for pair, score in zip(*sts, strict=True) if score >= POSITIVE_CAPTION]),
        i2i=_both_ways([pair for pair, score in zip(*sis, strict=True) if score >= POSITIVE_IMAGE]),
        sits=sits,
        sis=sis,
        sts=sts,
    )


def _both_ways(pairs: IdPairs) -> IdPairs:
    return list(dict.fromkeys([*pairs, *((second, first) for first, second in pairs)]))


def _read_csv(path: Path) -> tuple[Ratings, list[str]]:
    """Rated pairs and how each was sampled."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = [row for row in csv.reader(text.splitlines()) if row][1:]
        if not rows:
            raise ValueError("no rated pair in it")
        if not text.endswith(("\n", "\r")):
            raise ValueError("its last line has no end, the file is cut; fetch it again")
        pairs = [(coco_id(first), coco_id(second)) for first, second, _, _ in rows]
        return Ratings(pairs, [float(row[2]) for row in rows]), [row[3] for row in rows]
    except VSEError as error:
        raise VSEError(f"{path}: {error}") from error
    except (OSError, ValueError) as error:
        raise VSEError(
            f"{path}: {error}; expected Crisscrossed Captions' columns: two ids, agg_score, sampling_method"
        ) from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        VSEError: if the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VSEError(f"{path}: {error}; expected a file of annotations in JSON") from error


def read_positives(folder: Path, name: str) -> tuple[IdPairs, IdPairs]:
    """Image → captions and caption → images, from ``{name}_image_to_caption.json`` and ``…_caption_to_image.json``.

    Raises:
        VSEError: if a file cannot be read.
    """
    listed = [read_json(folder / f"{name}_{kind}.json") for kind in ("image_to_caption", "caption_to_image")]
    try:
        i2t, t2i = ([(int(query), int(item)) for query, items in one.items() for item in items] for one in listed)
    except (TypeError, ValueError, AttributeError) as error:
        raise VSEError(f"{folder}: {name}_*.json hold something else, expected {{query id: [ids]}}") from error
    return i2t, t2i


def eccv_folder() -> Path:
    """Data folder of the installed package eccv-caption, which is not imported.

    Raises:
        VSEError: if the package is not installed.
    """
    found = importlib.util.find_spec("eccv_caption")
    if found is None or not found.submodule_search_locations:
        raise VSEError("the annotations of ECCV Caption are not installed; pip install 'vse_gpo[eval]'")
    return Path(found.submodule_search_locations[0]) / "data"


def coco_caption_ids(
    image_ids: Sequence[str], caption_to_image: npt.NDArray[np.int64], released: Path | None = None
) -> list[str]:
    """COCO ids of the test captions, if the captions are in COCO's usual order.

    Args:
        image_ids: COCO ids of the images, by row.
        caption_to_image: row of each caption's image.
        released: folder of released annotations, whose testall_capids.txt and testall_ids.txt give the order. Without
            them, the package eccv-caption gives it.

    Raises:
        VSEError: if the captions are not COCO's test captions in that order.
    """
    if released is not None and (released / "testall_capids.txt").is_file():
        source, texts = released, [released / f"testall_{kind}.txt" for kind in ("capids", "ids")]
        caption_ids, owners = ([coco_id(line) for line in text.read_text("utf-8").split()] for text in texts)
    else:
        source = eccv_folder()
        caption_ids = np.load(source / "coco_test_ids.npy", allow_pickle=False).tolist()
        images = {caption: image for image, caption in read_positives(source, "original")[0]}
        owners = [images[caption] for caption in caption_ids]
    found = [coco_id(image_ids[row]) for row in caption_to_image.tolist()]
    if found != owners:
        place = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(found, owners, strict=False)))
        there, expected = (str(ids[place]) if place < len(ids) else "none" for ids in (found, owners))
        raise VSEError(
            f"{len(found)} captions of {len(image_ids)} images are not the {len(owners)} of {source} in their order: "
            f"caption {place} belongs to image {there}, expected {expected}; evaluate COCO's test split, or give "
            "image_ids and caption_ids with the embeddings"
        )
    return [str(caption) for caption in caption_ids]

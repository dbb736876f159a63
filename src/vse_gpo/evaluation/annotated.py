"""Annotations for the protocols that know more positives than the captions' own images."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from vse_gpo.errors import VSEError
from vse_gpo.retrieval.annotations import (
    CocoRows,
    CrisscrossedCaptions,
    IdPairs,
    coco_caption_ids,
    eccv_folder,
    read_crisscrossed,
    read_positives,
)
from vse_gpo.retrieval.crisscrossed import CrisscrossedCorrelation, CrisscrossedRecalls
from vse_gpo.retrieval.eccv import ListedPositives, eccv_scores, plausible_scores
from vse_gpo.retrieval.embeddings import Encoded
from vse_gpo.retrieval.protocols import PLUS, PROTOCOLS, Protocol, check_names

CORRELATION = "cxc_correlation"
ANNOTATED = ("cxc", CORRELATION, "eccv", "pmrp")


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """What the requested annotated protocols need; None for a protocol that is not requested."""

    folder: Path | None
    crossed: CrisscrossedCaptions | None
    eccv: tuple[IdPairs, IdPairs] | None
    plausible: tuple[IdPairs, IdPairs] | None
    seed: int

    @property
    def variant(self) -> str:
        """Variant of Crisscrossed Captions; empty without them."""
        return self.crossed.variant if self.crossed else ""

    def protocols(self, test: Encoded) -> dict[str, Protocol]:
        """The annotated protocols over the rows of a test set.

        Raises:
            VSEError: if the test set is not COCO's.
        """
        if self.crossed is None and self.eccv is None and self.plausible is None:
            return {}
        if test.image_ids is None:
            raise VSEError("annotated protocols need COCO's image ids; give image_ids with the embeddings")
        caption_ids = test.caption_ids or coco_caption_ids(test.image_ids, test.caption_to_image, self.folder)
        rows = CocoRows(test.image_ids, caption_ids)
        known: dict[str, Protocol] = {}
        if self.crossed:
            known["cxc"] = CrisscrossedRecalls(self.crossed, rows)
            known[CORRELATION] = CrisscrossedCorrelation(self.crossed, rows, self.seed)
        if self.eccv:
            known["eccv"] = ListedPositives(*self.eccv, rows, eccv_scores, "eccv")
        if self.plausible:
            known["pmrp"] = ListedPositives(*self.plausible, rows, plausible_scores, "pmrp")
        return known


def read_annotations(
    protocols: Sequence[str],
    *,
    cxc: str | Path | None = None,
    cxc_threshold_originals: bool = False,
    pmrp: str | Path | None = None,
    seed: int = 0,
    corrections: Collection[str] = (),
) -> Annotations:
    """Check the names of protocols and read the annotations that they need.

    Args:
        protocols: names.
        cxc: folder of Crisscrossed Captions' CSV files, or of the released annotations.
        cxc_threshold_originals: COCO's own pairs rated below 3.0 are not positives.
        pmrp: folder of ``pm_image_to_caption.json`` and ``pm_caption_to_image.json``.
        seed: seed of the correlation's bootstrap.
        corrections: names of the corrections that a protocol's name may end in.

    Raises:
        VSEError: if a name is unknown, annotations are missing or a protocol takes no correction.
    """
    check_names(protocols, [*PROTOCOLS, *ANNOTATED], corrections)
    for name in protocols:
        if name.startswith(f"{CORRELATION}{PLUS}"):
            raise VSEError(
                f"protocol {name}: a correction changes which item a query finds, not how alike two items are; leave "
                f"out {CORRELATION} or its correction"
            )
    bases = {name.partition(PLUS)[0] for name in protocols}
    crossing = [name for name in protocols if name.startswith("cxc")]
    if crossing and cxc is None:
        raise VSEError(
            f"protocol {crossing[0]} needs annotations; set cxc= to the folder of sits_test.csv and its like"
        )
    if "pmrp" in bases and pmrp is None:
        raise VSEError("protocol pmrp needs its authors' pm_image_to_caption.json; set pmrp= to its folder")
    return Annotations(
        folder=None if cxc is None else Path(cxc).expanduser(),
        crossed=read_crisscrossed(str(cxc), threshold_originals=cxc_threshold_originals) if crossing else None,
        eccv=read_positives(eccv_folder(), "eccv") if "eccv" in bases else None,
        plausible=read_positives(Path(str(pmrp)).expanduser(), "pm") if "pmrp" in bases else None,
        seed=seed,
    )

"""Score encoded test sets: every source and their ensemble, by every protocol."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vse_gpo.errors import VSEError
from vse_gpo.evaluation.annotated import Annotations, read_annotations
from vse_gpo.evaluation.published import published_row
from vse_gpo.evaluation.results import Result
from vse_gpo.retrieval.arrays import Array, Ids, Index
from vse_gpo.retrieval.banks import beside, drawn
from vse_gpo.retrieval.embeddings import Encoded, encoded, encoded_arrays, read_encoded
from vse_gpo.retrieval.hubness import CORRECTIONS, Bank, Correction, mean_bank
from vse_gpo.retrieval.protocols import PLUS, Gallery, run_protocols
from vse_gpo.retrieval.recalls import Metrics
from vse_gpo.retrieval.similarity import ensemble
from vse_gpo.retrieval.uncertainty import bootstrap_intervals


def evaluate(
    image_embeddings: Array,
    caption_embeddings: Array,
    *,
    caption_to_image: Index,
    protocols: str | Sequence[str] = ("all",),
    image_ids: Ids = None,
    caption_ids: Ids = None,
    cxc: str | Path | None = None,
    pmrp: str | Path | None = None,
    bank: str | Path | Mapping[str, Any] | None = None,
    bank_size: int | None = None,
    corrections: Mapping[str, Correction] = CORRECTIONS,
    seed: int = 0,
) -> dict[str, Metrics]:
    """{protocol: metrics} for each named protocol, the annotated ones included.

    Args:
        image_embeddings: (images, E); scaled to unit length.
        caption_embeddings: (captions, E); scaled to unit length.
        caption_to_image: (captions,) row of each caption's image; any number of captions per image.
        protocols: names, such as ``coco_5k``, ``cxc`` or ``coco_5k+qbnorm``, or one name.
        image_ids: COCO id per image, for the annotated protocols.
        caption_ids: COCO id per caption; derived from the images' ids if not given.
        cxc: folder of Crisscrossed Captions, for ``cxc`` and ``cxc_correlation``.
        pmrp: folder of the plausible matches, for ``pmrp``.
        bank: other pairs embedded by the same model, for corrections: a file that ``read_encoded`` reads, or its arrays
            by their names.
        bank_size: number of the bank's images at most, drawn with all their captions; None for all.
        corrections: name after a protocol's ``+`` → correction.
        seed: draws the bank.

    Raises:
        VSEError: if a protocol is unknown, made for another number of images or lacks its annotations or its bank, if
            the bank holds a pair of the test set, or if embeddings are of different widths, zero or not finite.

    Example:
        >>> images, captions = [[1.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [0.8, 0.6]]
        >>> evaluate(images, captions, caption_to_image=[0, 1], protocols=["all"])["all"]["t2i_r1"]
        50.0
    """
    protocols = [protocols] if isinstance(protocols, str) else protocols
    annotations = read_annotations(protocols, cxc=cxc, pmrp=pmrp, seed=seed, corrections=corrections)
    test = encoded(
        image_embeddings,
        caption_embeddings,
        caption_to_image=caption_to_image,
        image_ids=image_ids,
        caption_ids=caption_ids,
    )
    if bank is not None:
        pairs = encoded_arrays(bank) if isinstance(bank, Mapping) else read_encoded(bank)
        test = beside(test, drawn(pairs, bank_size, seed))
    gallery = Gallery(similarities=test.similarities, caption_to_image=test.caption_to_image, bank=test.bank)
    outcomes = run_protocols(gallery, protocols, annotations.protocols(test), corrections)
    return {name: outcome.metrics() for name, outcome in outcomes.items()}


def combine(encoded: Mapping[str, Encoded]) -> Encoded:
    """The ensemble of all sources: the mean of their similarities.

    Raises:
        VSEError: if the sources do not hold the same images and captions in the same order.
    """
    (first_name, first), *others = encoded.items()
    for what in ("image_ids", "caption_ids"):
        knowing = [(name, list(ids)) for name, one in encoded.items() if (ids := getattr(one, what)) is not None]
        for name, ids in knowing[1:]:
            if ids != knowing[0][1]:
                raise VSEError(
                    f"{knowing[0][0]} and {name} have different {what}; an ensemble needs one test set in one order"
                )
    for name, other in others:
        if first.caption_to_image.tolist() != other.caption_to_image.tolist():
            raise VSEError(f"{first_name} and {name} have different captions; an ensemble needs one test set in order")
    known: Any = {
        what: next((getattr(one, what) for one in encoded.values() if getattr(one, what) is not None), None)
        for what in ("image_ids", "caption_ids", "files")
    }
    banks = [one.bank for one in encoded.values() if isinstance(one.bank, Bank)]
    return Encoded(
        similarities=ensemble([one.similarities for one in encoded.values()]),
        caption_to_image=first.caption_to_image,
        bank=mean_bank(banks) if len(banks) == len(encoded) else None,
        **known,
    )


def score(
    sources: Mapping[str, Encoded],
    protocols: Sequence[str],
    annotations: Annotations,
    *,
    published: str | None = None,
    seed: int = 0,
    corrections: Mapping[str, Correction] | None = None,
) -> list[Result]:
    """Score every source by every protocol, with intervals and published numbers.

    Args:
        sources: name → its test set; the ensemble, if there is one, comes last.
        protocols: names of protocols.
        annotations: annotations that the protocols need.
        published: published row to compare the last source with.
        seed: seed of the intervals.
        corrections: corrections by name.
    """
    row = published_row(published).protocols if published else {}
    last = [*sources][-1]
    known = annotations.protocols(sources[last])
    results = []
    for source, one in sources.items():
        gallery = Gallery(similarities=one.similarities, caption_to_image=one.caption_to_image, bank=one.bank)
        for protocol, outcome in run_protocols(gallery, protocols, known, corrections).items():
            variants = (
                annotations.variant if protocol.partition(PLUS)[0] == "cxc" else "",
                str(one.bank) if PLUS in protocol else "",
            )
            results.append(
                Result(
                    source=source,
                    protocol=protocol,
                    variant=", ".join(filter(None, variants)),
                    outcome=outcome,
                    intervals=bootstrap_intervals(outcome, gallery.image_count, np.random.default_rng(seed)),
                    published=row.get(protocol, {}) if source == last else {},
                )
            )
    return results

"""Protocols by name: folds, and what is no test set of theirs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.golden import RECALLS, load
from vse_gpo.errors import VSEError
from vse_gpo.retrieval.annotations import CocoRows, CrisscrossedCaptions
from vse_gpo.retrieval.crisscrossed import CrisscrossedRecalls
from vse_gpo.retrieval.eccv import ListedPositives, eccv_scores
from vse_gpo.retrieval.hubness import CORRECTIONS, Bank
from vse_gpo.retrieval.protocols import Gallery, corrected, five_folds, run_protocols, whole_gallery
from vse_gpo.retrieval.similarity import Products, matrix_similarities, similarities


def test_five_folds_equal_the_released_program():
    golden = load("recall")
    test = Gallery(
        similarities=matrix_similarities(golden["sims"]),
        caption_to_image=np.arange(100).repeat(5),
    )
    metrics = five_folds(test).metrics()
    assert [metrics[name] for name in RECALLS] == pytest.approx(golden["fold5_mean"].tolist(), abs=1e-12)


def gallery(images: int) -> Gallery:
    return Gallery(similarities=matrix_similarities(torch.eye(images)), caption_to_image=np.arange(images))


@pytest.mark.parametrize(
    ("protocols", "message"),
    [
        ([], "no protocol to test by, expected some of all, "),
        (["coco"], "unknown protocol coco, expected some of all, "),
        (["all", "f30k_1k"], "protocol f30k_1k is defined on 1000 images, found 3; use protocol all"),
    ],
)
def test_a_test_that_cannot_be_done_is_refused(protocols, message):
    with pytest.raises(VSEError, match=message):
        run_protocols(gallery(3), protocols)


def test_a_gallery_that_makes_no_five_folds_is_ranked_whole():
    outcomes = run_protocols(gallery(7), ["all", "mine"], {"mine": whole_gallery})
    assert outcomes["all"].metrics() == outcomes["mine"].metrics()
    assert outcomes["all"].metrics()["rsum"] == 600.0


def with_bank(images: int, seed: int = 0) -> Gallery:
    """Images with two or three captions each, and a bank of others; hubs are there: all lie on one side."""
    draws = torch.Generator().manual_seed(seed)
    side = torch.randn(8, generator=draws)

    def encode(images: int, counts: list[int]) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        index = np.random.default_rng(seed).permutation(np.arange(images).repeat(counts))
        vectors = torch.randn(images, 8, generator=draws) + side
        texts = vectors[index] + torch.randn(len(index), 8, generator=draws)
        return *(torch.nn.functional.normalize(part, dim=1) for part in (vectors, texts)), index

    (vectors, texts, index), (banked, described, owners) = encode(images, [2, 3] * (images // 2)), encode(6, [2] * 6)
    return Gallery(
        similarities=similarities(vectors, texts),
        caption_to_image=index,
        bank=Bank(
            image_caption=Products(banked, described),
            image_tested=Products(banked, texts),
            tested_caption=Products(vectors, described),
            caption_to_image=owners,
        ),
    )


def plain_corrected_ranks(test: Gallery, correction, images: list[int]) -> tuple[list[int], list[int]]:
    """Query by query over the corrected matrices of some images and their captions; ties count against the query."""
    captions = [row for row, owner in enumerate(test.caption_to_image) if owner in images]
    bank = test.bank.part(torch.tensor(images), torch.tensor(captions))
    matrix = test.similarities.image_caption.select(torch.tensor(images), torch.tensor(captions))
    everything = (slice(0, len(images)), slice(0, len(captions)))
    i2t = correction(matrix, bank.searched("i2t")).exact_tile(*everything).tolist()
    t2i = correction(matrix.transpose(), bank.searched("t2i")).exact_tile(*everything[::-1]).tolist()
    owners = [images.index(test.caption_to_image[row]) for row in captions]
    of_images = []
    for image, row in enumerate(i2t):
        best = max(value for value, owner in zip(row, owners, strict=True) if owner == image)
        of_images.append(sum(value >= best for value, owner in zip(row, owners, strict=True) if owner != image))
    of_captions = [
        sum(value >= row[owner] for image, value in enumerate(row) if image != owner)
        for row, owner in zip(t2i, owners, strict=True)
    ]
    return of_images, of_captions


@pytest.mark.parametrize("correction", CORRECTIONS.values(), ids=CORRECTIONS)
def test_corrected_ranks_equal_a_plain_loop_in_the_whole_gallery_and_in_each_fold(correction):
    test = with_bank(20)
    found = corrected(test, correction)
    whole = plain_corrected_ranks(test, correction, list(range(20)))
    assert (found.whole_ranks.images.tolist(), found.whole_ranks.captions.tolist()) == whole
    for first in range(0, 20, 4):
        fold = list(range(first, first + 4))
        of_images, of_captions = plain_corrected_ranks(test, correction, fold)
        assert found.own_fold_ranks.images[fold].tolist() == of_images
        assert found.own_fold_ranks.captions[np.isin(test.caption_to_image, fold)].tolist() == of_captions
    assert whole[1] != test.whole_ranks.captions.tolist()


def test_a_correction_has_a_name_of_its_own_beside_the_plain_protocol():
    test = with_bank(20)
    outcomes = run_protocols(test, ["all", "all+qbnorm", "all+dbsn"], None, CORRECTIONS)
    assert outcomes["all"].metrics() == run_protocols(test, ["all"])["all"].metrics()
    means = {name: outcome.metrics()["t2i_meanr"] for name, outcome in outcomes.items()}
    assert len(set(means.values())) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("all+csls", r"protocol all\+csls: unknown correction csls, expected qbnorm or dbsn"),
        ("all+", r"protocol all\+: unknown correction , expected qbnorm or dbsn"),
        ("none+qbnorm", r"unknown protocol none\+qbnorm, expected some of all, "),
        ("coco_5k+qbnorm", r"protocol coco_5k\+qbnorm is defined on 5000 images, found 3"),
        ("all+qbnorm", "a correction needs a bank of other pairs; set bank= to a split"),
    ],
)
def test_a_correction_that_cannot_be_made_is_refused(name, message):
    with pytest.raises(VSEError, match=message):
        run_protocols(gallery(3), [name], None, CORRECTIONS)


def test_where_no_correction_is_known_its_name_says_who_makes_one():
    with pytest.raises(VSEError, match=r"protocol all\+qbnorm: a correction needs a bank, which only vse-evaluate and"):
        run_protocols(gallery(3), ["all+qbnorm"])


@pytest.mark.parametrize("annotated", ["cxc", "eccv"])
def test_an_annotated_protocol_reads_the_corrected_similarities_of_each_direction(annotated):
    test = with_bank(20)
    rows = CocoRows([str(row) for row in range(20)], [str(row) for row in range(len(test.caption_to_image))])
    draws = np.random.default_rng(1)
    t2i = list(dict.fromkeys(zip(draws.integers(0, 50, 90).tolist(), draws.integers(0, 20, 90).tolist(), strict=True)))
    i2t = [(image, caption) for caption, image in t2i]
    protocol = {
        "cxc": CrisscrossedRecalls(CrisscrossedCaptions(variant="", i2t=i2t, t2i=t2i, t2t=[], i2i=[]), rows),
        "eccv": ListedPositives(i2t, t2i, rows, eccv_scores, "eccv"),
    }[annotated]
    correction = CORRECTIONS["dbsn"]
    found = run_protocols(test, [f"{annotated}+dbsn"], {annotated: protocol}, {"dbsn": correction})
    metrics = found[f"{annotated}+dbsn"].metrics()
    assert not [name for name in metrics if name.startswith(("t2t", "i2i"))]
    for direction in ("i2t", "t2i"):
        matrix = corrected(test, correction).searched(direction).exact_tile(slice(0, 60), slice(0, 60))
        alone = replace(test, similarities=matrix_similarities(matrix if direction == "i2t" else matrix.T))
        expected = {name: one for name, one in protocol(alone).metrics().items() if name.startswith(direction)}
        assert {name: one for name, one in metrics.items() if name.startswith(direction)} == expected
    assert metrics != protocol(test).metrics()

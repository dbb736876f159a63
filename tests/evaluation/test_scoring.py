"""Sources, their ensemble and what was published, by every protocol; the same from Python."""

import numpy as np
import pytest
import torch

from vse_gpo.errors import VSEError
from vse_gpo.evaluation.annotated import read_annotations
from vse_gpo.evaluation.published import published_row
from vse_gpo.evaluation.scoring import combine, evaluate, score
from vse_gpo.retrieval.embeddings import Encoded, encoded


def source(seed: int, noise: float = 0.7, **changes: object) -> Encoded:
    """Twelve images with two captions each, near their image."""
    draws = torch.Generator().manual_seed(seed)
    images = torch.nn.functional.normalize(torch.randn(12, 8, generator=draws), dim=1)
    index = np.arange(12).repeat(2)
    captions = images[index] + noise * torch.randn(24, 8, generator=draws)
    known = {"image_ids": [str(row) for row in range(12)]} | changes
    return encoded(images, captions, caption_to_image=index, **known)


def matrix(one: Encoded) -> torch.Tensor:
    return one.similarities.image_caption.exact_tile(slice(0, 12), slice(0, 24))


def test_protocols_refuse_another_size_and_unknown_names():
    arguments = (torch.eye(3), torch.eye(3))
    assert evaluate(*arguments, caption_to_image=torch.arange(3), protocols=["all"])["all"]["rsum"] == 600.0
    with pytest.raises(VSEError, match="coco_1k_5fold is defined on 5000 images, found 3"):
        evaluate(*arguments, caption_to_image=torch.arange(3), protocols=["all", "coco_1k_5fold"])
    with pytest.raises(VSEError, match="unknown protocol coco"):
        evaluate(*arguments, caption_to_image=torch.arange(3), protocols=["coco"])


def test_an_ensemble_is_the_mean_of_its_members_similarities():
    members = {"a": source(0, image_ids=None), "b": source(1), "c": source(2)}
    both = combine(members)
    expected = torch.stack([matrix(one) for one in members.values()]).mean(0)
    torch.testing.assert_close(matrix(both), expected, atol=1e-12, rtol=0)
    assert both.image_ids == [str(row) for row in range(12)]  # from whichever knows them
    assert both.caption_to_image.tolist() == members["a"].caption_to_image.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image_ids": [str(row) for row in range(1, 13)]},
            "a and b have different image_ids; an ensemble needs one test",
        ),
        ({"caption_ids": [str(row) for row in range(24)]}, "c and b have different caption_ids"),
    ],
)
def test_members_of_another_test_set_are_refused(changes, message):
    members = {"a": source(0), "c": source(2, caption_ids=[f"c{row}" for row in range(24)]), "b": source(1, **changes)}
    with pytest.raises(VSEError, match=message):
        combine(members)


def test_members_with_other_captions_are_refused():
    other = encoded(torch.eye(12), torch.eye(12), caption_to_image=np.arange(12))
    with pytest.raises(VSEError, match="a and b have different captions; an ensemble needs one test set in order"):
        combine({"a": source(0), "b": other})


def test_every_source_has_intervals_and_the_last_what_was_published():
    annotations = read_annotations(["all"])
    results = score({"a": source(0), "b": source(1)}, ["all"], annotations, seed=0)
    assert [(one.source, one.protocol) for one in results] == [("a", "all"), ("b", "all")]
    for one in results:
        low, high = one.intervals["rsum"]
        assert low <= one.metrics["rsum"] <= high
        assert one.published == {}
    again = score({"a": source(0), "b": source(1)}, ["all"], annotations, seed=0)
    assert [one.intervals for one in again] == [one.intervals for one in results]


def test_the_published_row_stands_by_the_last_source_and_its_own_protocols():
    draws = torch.Generator().manual_seed(0)
    images = torch.randn(1000, 4, generator=draws)
    test = encoded(images, images, caption_to_image=np.arange(1000))
    sources, protocols = {"a": test, "ensemble": test}, ["f30k_1k", "all"]
    results = score(sources, protocols, read_annotations(protocols), published="f30k_butd_region")
    published = {(one.source, one.protocol): one.published for one in results}
    assert published.pop(("ensemble", "f30k_1k")) == published_row("f30k_butd_region").protocols["f30k_1k"]
    assert list(published.values()) == [{}, {}, {}]
    with pytest.raises(VSEError, match="published=vse: no such row"):
        score(sources, protocols, read_annotations(protocols), published="vse")

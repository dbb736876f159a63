"""What annotated protocols need is read, or asked for, before any work."""

import numpy as np
import pytest
import torch

from tests.golden import CXC, load
from vse_gpo.errors import VSEError
from vse_gpo.evaluation.annotated import read_annotations
from vse_gpo.evaluation.scoring import evaluate
from vse_gpo.retrieval.embeddings import Encoded, encoded

IMAGE_IDS = (CXC / "testall_ids.txt").read_text().split()[::5]


def released(image_ids: list[str] | None = IMAGE_IDS) -> Encoded:
    """The set of the golden numbers."""
    golden = load("cxc")
    return encoded(
        golden["image_embeddings"],
        golden["caption_embeddings"],
        caption_to_image=np.arange(40).repeat(5),
        image_ids=image_ids,
    )


def test_plain_protocols_need_nothing():
    annotations = read_annotations(["all", "coco_5k"])
    assert annotations.protocols(released(image_ids=None)) == {}
    assert annotations.variant == ""


def test_the_protocols_asked_for_are_known_and_no_others():
    annotations = read_annotations(["cxc"], cxc=CXC)
    assert list(annotations.protocols(released())) == ["cxc", "cxc_correlation"]  # one reading serves both
    assert annotations.variant == "released annotations"


def test_recalls_by_annotations_equal_the_released_program():
    golden = load("cxc")
    metrics = evaluate(
        golden["image_embeddings"],
        golden["caption_embeddings"],
        caption_to_image=torch.arange(40).repeat_interleave(5),
        protocols=["all", "cxc"],
        image_ids=IMAGE_IDS,
        cxc=CXC,
    )
    for direction in ("i2t", "t2i", "t2t", "i2i"):
        found = [metrics["cxc"][f"{direction}_r{k}"] for k in (1, 5, 10)]
        assert found == pytest.approx(golden[direction].tolist(), abs=1e-10)
    assert "t2t_r1" not in metrics["all"]


def test_annotations_without_coco_s_ids_are_refused():
    with pytest.raises(VSEError, match="annotated protocols need COCO's image ids"):
        read_annotations(["cxc"], cxc=CXC).protocols(released(image_ids=None))


@pytest.mark.parametrize(
    ("protocols", "message"),
    [
        (["all", "coco"], "unknown protocol coco, expected some of all, .*pmrp"),
        (["cxc_correlation"], "protocol cxc_correlation needs annotations; set cxc="),
        (["pmrp"], r"protocol pmrp needs its authors' pm_image_to_caption\.json; set pmrp="),
    ],
)
def test_what_is_missing_is_told_before_any_work(protocols, message):
    with pytest.raises(VSEError, match=message):
        read_annotations(protocols)

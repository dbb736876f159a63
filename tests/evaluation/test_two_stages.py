"""Protocols of both stages, and what has no two stages; ``test_run`` evaluates a model by them."""

import numpy as np
import pytest
import torch

from tests.helpers.tiny import tiny_data, tiny_module
from vse_gpo.errors import VSEError
from vse_gpo.evaluation.annotated import read_annotations
from vse_gpo.evaluation.encoding import Collector
from vse_gpo.evaluation.scoring import score
from vse_gpo.evaluation.two_stages import check_model, second_stage, staged, stages, with_times
from vse_gpo.interaction import MaxSim
from vse_gpo.retrieval.embeddings import Encoded
from vse_gpo.retrieval.protocols import Gallery, run_protocols
from vse_gpo.retrieval.reranking import Rerank


@pytest.fixture(scope="module")
def collected():
    """A split as a model with an interaction sees it: with the similarity of all pairs, and with item sets."""
    model, found = tiny_module(interaction=MaxSim()).model.eval(), []
    for keeps_items in (False, True):
        data, collector = tiny_data(), Collector(model, keeps_items=keeps_items)
        for modality, loader in enumerate(data.evaluation_dataloaders("test")):
            for batch in loader:
                collector.add(batch, modality)
        found.append(collector.gather(data.split("test").caption_to_image, processes=1))
    return data.split("test").caption_to_image, found


def test_both_stages_are_scored_and_timed(collected):
    index, (whole, kept) = collected
    assert staged(["all", "cxc"], Rerank(2)) == ["all+embedding", "all+rerank2", "cxc+embedding", "cxc+rerank2"]
    assert [*stages(Rerank(50, 0.5))] == ["embedding", "rerank50_embedding0.5"]
    everything = Rerank(int(index.max()) + 1)
    test = Encoded(similarities=kept.similarities(), caption_to_image=index, bank=kept.item_sets)
    protocols = staged(["all"], everything)
    annotations = read_annotations(protocols, corrections=stages(everything))
    results = score({"tiny": test}, protocols, annotations, corrections=stages(everything))
    results, times = with_times(results, test, everything)
    by_embedding, re_ordered = results
    assert (by_embedding.variant, re_ordered.variant) == ("", "")  # beside the protocol's name in titles
    assert times.keys() == {"i2t_ms", "t2i_ms"}
    assert min(times.values()) > 0
    assert times.items() <= re_ordered.metrics.items()
    assert not times.keys() & by_embedding.metrics.keys()
    plain = run_protocols(Gallery(similarities=whole.embedding_similarities(), caption_to_image=index), ["all"])
    assert by_embedding.metrics == plain["all"].metrics()
    full = run_protocols(Gallery(similarities=whole.similarities(), caption_to_image=index), ["all"])["all"]
    of_captions, expected = (one.queries[1].ranks for one in (re_ordered.outcome, full))
    np.testing.assert_array_equal(of_captions, expected)  # all images were re-ordered


def test_times_need_item_sets(collected):
    index, (whole, _) = collected
    with pytest.raises(VSEError, match="no item sets"):
        with_times([], Encoded(similarities=whole.similarities(), caption_to_image=index), Rerank(5))


def test_items_are_kept_in_the_place_of_the_similarity_of_all(collected):
    _, (whole, kept) = collected
    assert (whole.item_sets, kept.interaction) == (None, None)
    assert torch.equal(whole.images, kept.images)
    query = torch.arange(len(whole.images))
    torch.testing.assert_close(kept.item_sets.searched("t2i")(4, query), whole.interaction[:, 4])


def test_what_has_no_two_stages_is_refused():
    alone = {"sources": 1, "embeddings": [], "bank": []}
    assert second_stage(None, 0.0, **alone) is None
    assert second_stage(5, 0.5, **alone) == Rerank(5, 0.5)
    for first, embedding, others, message in (
        ("auto", 0.0, {}, "rerank=auto, expected a number of items"),
        (5, 0.0, {"sources": 2}, "rerank=5 with 2 sources, expected one checkpoint"),
        (5, 0.0, {"embeddings": ["a.npz"]}, "rerank=5 with 1 sources, expected one checkpoint"),
        (5, 0.0, {"bank": ["train"]}, "rerank=5 with bank=train: hubness is corrected for embeddings only"),
        (5, -1.0, {}, "rerank_embedding=-1, expected a weight of 0 or more"),
        (None, 1.0, {}, "rerank_embedding=1 without rerank, whose order it changes; add rerank=50"),
    ):
        with pytest.raises(VSEError, match=message):
            second_stage(first, embedding, **(alone | others))
    with pytest.raises(VSEError, match="rerank=5: run0 has no interaction; leave it out, or train with interaction="):
        check_model("run0", tiny_module().model, first=5, images=9, of_embeddings=[])
    model = tiny_module(interaction=MaxSim()).model
    with pytest.raises(VSEError, match="save_embeddings: run0 ranks by its interaction, not by embeddings"):
        check_model("run0", model, first=None, images=9, of_embeddings=["save_embeddings"])
    check_model("run0", model, first=5, images=9, of_embeddings=[])
    with pytest.raises(VSEError, match="rerank=10, but the gallery has 9 items; set it to 9 at most"):
        check_model("run0", model, first=10, images=9, of_embeddings=[])

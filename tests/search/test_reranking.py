"""Two stages against the model's own similarities."""

from pathlib import Path

import pytest
import torch

from tests.helpers.photo_folder import paint, small_model
from tests.helpers.photo_index import indexed
from vse_gpo import VSE
from vse_gpo.batch import EncoderOutput
from vse_gpo.errors import VSEError
from vse_gpo.search import reranking
from vse_gpo.search.index import Hit, Index
from vse_gpo.search.items import Compaction
from vse_gpo.search.queries import encode_picture, encode_text
from vse_gpo.search.reranking import choose_rerank, compare_items, find, ordered_by

ALL = Compaction(None, "float32")
TEXTS = ["a red circle", "a blue square left of a green heart", "stars"]
IMAGES = 12


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("home")
    for seed in range(IMAGES):
        paint(home / "pictures" / f"{seed:02d}.png", seed)
    return home


@pytest.fixture(scope="module", params=["MaxSim", "ScanTextToImage", "ScanImageToText", "HardAssignment"])
def model(request) -> VSE:
    return small_model(interaction=request.param)


@pytest.fixture(scope="module")
def index(home, model) -> Index:
    return indexed(home, model, ALL)


def own_similarities(model: VSE, index: Index, query: EncoderOutput) -> torch.Tensor:
    """By the library: all images at once, none of them from the index."""
    images = [index.path(file) for file in index.names.to_pylist()]
    with torch.inference_mode():
        outputs = model.image_encoder.output(model.prepare_images(images), with_items=True)
        similarity = model.similarity("interaction", outputs, query)
    return similarity[:, 0].clone()


@pytest.mark.parametrize("text", TEXTS)
def test_re_ranking_all_images_is_ranking_by_the_interaction(text, model, index, monkeypatch):
    monkeypatch.setattr(reranking, "BLOCK", 5)
    query, _ = encode_text(model, text)
    hits = find(index, model, query, top=IMAGES, rerank=IMAGES)
    expected = own_similarities(model, index, query)
    assert [hit.row for hit in hits] == expected.argsort(descending=True).tolist()
    torch.testing.assert_close(
        torch.tensor([hit.score for hit in hits]), expected.sort(descending=True).values, atol=1e-5, rtol=0
    )
    assert find(index, model, query, top=3, rerank=IMAGES) == hits[:3]


def test_an_image_is_compared_with_the_others_by_its_items(home, model, index):
    query = encode_picture(model, home / "pictures" / "03.png")
    hits = find(index, model, query, top=4, rerank=IMAGES, without=3)
    expected = own_similarities(model, index, query)
    expected[3] = -torch.inf
    assert [hit.row for hit in hits] == expected.argsort(descending=True)[:4].tolist()


def test_only_the_first_images_are_re_ordered(model, index):
    query, _ = encode_text(model, TEXTS[0])
    by_embedding = find(index, model, query, top=IMAGES)
    hits = find(index, model, query, top=5, rerank=5)
    assert by_embedding == index.hits(query.embeddings, IMAGES)[0]
    assert {hit.row for hit in hits} == {hit.row for hit in by_embedding[:5]}
    scores = own_similarities(model, index, query)[[hit.row for hit in hits]]
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)


def test_equal_images_keep_their_order():
    hits = [Hit(row, f"{row}.png", 0.0) for row in (4, 2, 9)]
    assert [hit.row for hit in ordered_by(hits, torch.tensor([0.5, 0.7, 0.5]))] == [2, 4, 9]


def test_compact_items_give_nearly_the_same(home, model, index):
    query, _ = encode_text(model, TEXTS[1])
    rows = list(range(IMAGES))
    exact = compare_items(index, model.interaction, query.items, rows)
    small = indexed(home, model, Compaction(None, "int8"))
    assert small.table.item_bytes < index.table.item_bytes / 2
    torch.testing.assert_close(compare_items(small, model.interaction, query.items, rows), exact, atol=0.02, rtol=0)
    indexed(home, model, ALL)


def test_how_many_are_re_ranked(home, model, index, tmp_path):
    plain = small_model()
    assert choose_rerank("auto", index, model, top=10) == IMAGES
    assert choose_rerank(10, index, model, top=10) == 10
    assert choose_rerank(IMAGES, index, model, top=50) == IMAGES
    assert choose_rerank(None, index, model, top=10) == 0
    without = indexed(home, plain)
    assert choose_rerank("auto", without, plain, top=10) == 0
    indexed(home, model, ALL)
    for rerank, asked, of, line in (
        (IMAGES + 1, index, model, "rerank=13, but the index holds 12 images; set it to 12 at most"),
        (5, index, model, "rerank=5, but top=10 images are shown; expected as many at least"),
        (5, without, plain, "rerank=5: the model has no interaction, .* train a model with interaction=maxsim"),
        (5, without, model, r"rerank=5: the index has no sets of items; python -m vse_gpo\.index .* items=16 adds"),
    ):
        with pytest.raises(VSEError, match=line):
            choose_rerank(rerank, asked, of, top=10)


def test_an_index_without_sets_has_none_to_read(home, tmp_path):
    (tmp_path / "pictures").symlink_to(home / "pictures")
    without = indexed(tmp_path, small_model())
    with pytest.raises(VSEError, match="the index has no sets of items"):
        without.item_sets([0])

"""What the page answers, without the page."""

import pytest
import torch

from tests.helpers.photo_folder import paint, small_model
from tests.helpers.photo_index import indexed
from vse_gpo.errors import VSEError
from vse_gpo.pooling import GPO, Mean
from vse_gpo.search.answers import LONGEST, Answers, curve_of
from vse_gpo.search.heat import word_maps
from vse_gpo.search.items import Compaction
from vse_gpo.search.reranking import find

CAPTIONS = ["a red circle", "a blue square", "", "a red circle", "<b>a heart</b>"]


def test_a_text_finds_pictures_in_the_order_of_their_scores(index, model):
    answers = Answers(index, model, CAPTIONS)
    query = answers.text("a red circle")
    answer = answers.answer(query, 4)
    scores = torch.from_numpy(index.embeddings()) @ model.encode_captions(["a red circle"])[0]
    assert [hit.row for hit in answer.hits] == scores.argsort(descending=True)[:4].tolist()
    assert [hit.score for hit in answer.hits] == pytest.approx(scores.sort(descending=True).values[:4].tolist())
    assert index.files([hit.row for hit in answer.hits]) == [hit.file for hit in answer.hits]
    assert answer.captions == []


def test_a_picture_finds_itself_and_captions(index, model, tmp_path):
    answers = Answers(index, model, CAPTIONS)
    assert answers.captions == ["a red circle", "a blue square", "<b>a heart</b>"]
    answer = answers.answer(answers.picture(tmp_path / "pictures" / "3.png"), 2)
    assert answer.hits[0].file == "3.png"
    similarity = model.encode_captions(answers.captions) @ model.encode_images([tmp_path / "pictures" / "3.png"])[0]
    best = similarity.argsort(descending=True)[:2].tolist()
    assert [caption for caption, _ in answer.captions] == [answers.captions[row] for row in best]


def test_a_result_finds_the_others(index, model):
    answers = Answers(index, model)
    for top, found in ((3, 3), (100, len(index) - 1)):
        answer = answers.answer(answers.result(2), top)
        assert len(answer.hits) == found
        assert 2 not in [hit.row for hit in answer.hits]
        assert answer.captions == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "nothing to look for"),
        (" \n\t", "nothing to look for"),
        ("word " * LONGEST, "a query of 5,000 characters, expected at most 1,000"),
        ("\ud800", "not UTF-8"),
    ],
)
def test_a_text_that_cannot_be_asked_gets_one_line(text, line, index, model):
    with pytest.raises(VSEError, match=line):
        Answers(index, model).text(text)


@pytest.mark.parametrize("text", ["?", "\0", "ein grüner Kreis 🟢 赤い", "${x} {{y}} <b>", "x" * LONGEST])
def test_an_odd_text_is_a_query(text, index, model):
    answers = Answers(index, model)
    assert len(answers.answer(answers.text(text), 3).hits) == 3


@pytest.mark.parametrize("row", [-1, 6, 10**9])
def test_a_row_that_is_not_there_is_refused(row, index, model):
    with pytest.raises(VSEError, match="no image"):
        Answers(index, model).result(row)


def test_a_file_that_is_no_picture_gets_one_line_without_its_folder(index, model, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(VSEError, match=r"^cannot be decoded \(not an image, 10 bytes\)$"):
        Answers(index, model).picture(tmp_path / "broken.png")


def test_the_curve_is_that_of_the_querys_size(index, model):
    answers = Answers(index, model)
    short, long = answers.text("a heart").curve, answers.text("a red heart left of a blue square").curve
    assert [len(short), len(long)] == [4, 10]  # with the words that begin and end a caption
    expected = model.text_encoder.pooling.coefficients(torch.tensor([10]))[0]
    assert long == pytest.approx(expected.tolist())
    cells = answers.result(0).curve
    assert sum(cells) == pytest.approx(1, abs=1e-5)
    assert answers.result(1).curve == cells


def test_a_pooling_without_coefficients_has_no_curve():
    model = small_model()
    words = model.prepare_captions(["a heart"])
    assert isinstance(model.text_encoder.pooling, GPO)
    model.text_encoder.pooling = Mean()
    assert curve_of(model.text_encoder, words) == []


def test_a_page_re_ranks_and_maps_the_words_of_a_text(tmp_path):
    for seed in range(6):
        paint(tmp_path / "pictures" / f"{seed}.png", seed)
    model = small_model(interaction="MaxSim")
    index = indexed(tmp_path, model, Compaction(5, "int8"))
    answers = Answers(index, model, rerank=5)
    query = answers.text("a red circle")
    answer = answers.answer(query, 4)
    assert answer.hits == find(index, model, query.encoded, top=4, rerank=5)
    assert answer.reranked == 5
    assert [word.text for word in query.words] == ["a", "red", "circle"]
    expected = word_maps(query.words, query.encoded.items, index.item_sets([hit.row for hit in answer.hits]), 4)
    assert torch.equal(answer.maps, expected)
    query = answers.result(2)
    answer = answers.answer(query, 5)
    assert torch.equal(query.encoded.items.values, index.item_sets([2]).features().values)
    assert 2 not in [hit.row for hit in answer.hits]
    assert (len(answer.hits), answer.maps) == (5, None)
    assert answers.picture(tmp_path / "pictures" / "1.png").encoded.items.values.shape == (1, 16, 6)
    assert Answers(index, model).answer(Answers(index, model).text("a heart"), 2).maps is None


def test_items_without_places_have_no_map_and_it_is_said(tmp_path):
    paint(tmp_path / "pictures" / "a.png", 1)
    model = small_model(interaction="MaxSim")
    model.image_encoder.backbone.has_grid = False
    answers = Answers(indexed(tmp_path, model, Compaction(5, "int8")), model, rerank=1)
    query = answers.text("a red circle")
    assert query.remarks == ["where a word was found cannot be shown: the model's items are no grid"]
    assert answers.answer(query, 1).maps is None

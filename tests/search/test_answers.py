"""What the page answers, without the page."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.photo_folder import paint, small_model
from vse_gpo import VSE
from vse_gpo.errors import VSEError
from vse_gpo.pooling import GPO, Mean
from vse_gpo.search.answers import LONGEST, Answers, curve_of
from vse_gpo.search.index import Index, IndexSettings, write_index
from vse_gpo.search.kinds import Flat
from vse_gpo.search.markup import Asked, answer_markup, bar_markup, picture_markup
from vse_gpo.search.pictures import find_pictures, open_picture

CAPTIONS = ["a red circle", "a blue square", "", "a red circle", "<b>a heart</b>"]
HOSTILE = "<img src=x onerror=alert(1)> ${1+1} {{value}} `.png"


@pytest.fixture(scope="module")
def model() -> VSE:
    return small_model()


@pytest.fixture
def index(tmp_path, model) -> Index:
    files = [HOSTILE, *(f"{number}.png" for number in range(5))]
    for seed, file in enumerate(files):
        paint(tmp_path / "pictures" / file, seed)
    return indexed(tmp_path, model)


def indexed(home, model: VSE) -> Index:
    """An index of home's pictures, in home."""
    pictures = find_pictures(home / "pictures").pictures
    embeddings = model.encode_images([home / "pictures" / picture.file for picture in pictures])
    settings = IndexSettings(
        images=str(home / "pictures"),
        model="model",
        tokenizer=None,
        vocabulary=None,
        fingerprint=model.fingerprint(),
        kind=repr(Flat()),
    )
    folder = home / "index"
    folder.mkdir()
    write_index(
        folder, pictures=pictures, embeddings=[embeddings.numpy()], settings=settings, kind=Flat(),
        random=np.random.default_rng(0),
    )  # fmt: skip
    return Index.load(folder)


def test_a_text_finds_pictures_in_the_order_of_their_scores(index, model):
    answers = Answers(index, model, CAPTIONS)
    query = answers.text("a red circle")
    answer = answers.answer(query, 4)
    scores = torch.from_numpy(index.embeddings().copy()) @ model.encode_captions(["a red circle"])[0]
    assert [hit.row for hit in answer.hits] == scores.argsort(descending=True)[:4].tolist()
    assert [hit.score for hit in answer.hits] == pytest.approx(scores.sort(descending=True).values[:4].tolist())
    assert [index.pictures[hit.row].file for hit in answer.hits] == [hit.file for hit in answer.hits]
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
    with pytest.raises(VSEError, match="no picture"):
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


# markup


def test_names_and_captions_are_text(index, model):
    answers = Answers(index, model, CAPTIONS)
    row = [picture.file for picture in index.pictures].index(HOSTILE)
    asked = Asked(answers.result(row), HOSTILE, index.path(HOSTILE))
    markup = answer_markup(index, asked, answers.answer(asked.query, 6), 12.3)
    markup += answer_markup(index, Asked(answers.text("a heart")), answers.answer(answers.text("a heart"), 6), 1.0)
    assert "<img src=x" not in markup
    assert "<b>a heart" not in markup
    assert "&lt;b&gt;a heart&lt;/b&gt;" in markup
    assert "&lt;img src=x onerror=alert(1)&gt;" in markup
    assert "5 of 6 pictures in 12 ms" in markup


def test_a_lost_picture_and_one_that_leads_out_are_said_in_its_place(index, model, tmp_path):
    (tmp_path / "pictures" / "0.png").unlink()
    (tmp_path / "pictures" / "1.png").unlink()
    (tmp_path / "secret.png").write_bytes(paint(tmp_path / "x.png", 9).read_bytes())
    (tmp_path / "pictures" / "1.png").symlink_to(tmp_path / "secret.png")
    answers = Answers(index, model)
    query = answers.text("a heart")
    markup = answer_markup(index, Asked(query), answers.answer(query, 6), 1.0)
    assert markup.count("<img ") == 4
    assert "no such file or directory" in markup
    assert "refused: it leads out of the folder" in markup


@pytest.mark.parametrize(("score", "width"), [(0.5, "50.0%"), (-0.3, "0.0%"), (1.00001, "100.0%")])
def test_a_bar_stays_in_its_frame(score, width):
    assert f"width: {width}" in bar_markup(score)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "I;16"])
def test_pictures_of_every_kind_are_drawn_small(mode, tmp_path):
    if mode == "I;16":
        Image.fromarray(np.full((900, 600), 30000, dtype=np.uint16)).save(tmp_path / "a.png")
    else:
        Image.new("RGB", (600, 900), "red").convert(mode).save(tmp_path / "a.png")
    assert open_picture(tmp_path / "a.png", side=320).shape == (3, 320, 213)
    assert picture_markup(tmp_path / "a.png", "a").startswith('<img src="data:image/jpeg;base64,')

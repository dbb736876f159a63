"""sentence-transformers' interface: one encode for both kinds, and its own evaluator's numbers."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.golden import FOLDER
from vse_gpo import VSE
from vse_gpo.data.shapes import ShapesDataset
from vse_gpo.errors import VSEError
from vse_gpo.evaluation.sentence_encoder import SentenceEncoder
from vse_gpo.interaction import MaxSim
from vse_gpo.retrieval import image_caption_recalls


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder(VSE.from_pretrained(FOLDER / "saved" / "model"))


def pictures(split) -> list[Image.Image]:
    return [Image.fromarray(split.images[row].permute(1, 2, 0).numpy()) for row in range(len(split.images))]


@pytest.fixture(scope="module")
def split():
    return ShapesDataset(train=1, dev=1, test=25, size=32, captions=2, seed=0).split("test")


def test_texts_and_images_are_encoded_as_the_model_does(encoder, split):
    images, texts = pictures(split)[:3], split.captions[:3]
    found = encoder.encode(images, batch_size=2)
    assert isinstance(found, np.ndarray)
    torch.testing.assert_close(torch.from_numpy(found), encoder.model.encode_images(images))
    expected = encoder.model.encode_captions(texts)
    torch.testing.assert_close(encoder.encode_query(texts, convert_to_tensor=True), expected)
    torch.testing.assert_close(encoder.encode(texts[0], convert_to_numpy=False), expected[0])
    assert encoder.encode_document(images[0]).shape == expected[0].shape


def test_similarities_are_cosines(encoder):
    first, second = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 5.0]])
    assert encoder.similarity(first, second).tolist() == pytest.approx(np.array([[0.6, 0.8], [0.0, 1.0]]))
    assert encoder.similarity(first[0], second[1]).tolist() == pytest.approx(np.array([[0.8]]))
    assert encoder.similarity_pairwise(first, second).tolist() == pytest.approx([0.6, 1.0])


@pytest.mark.parametrize(
    ("inputs", "settings", "message"),
    [
        (["a"], {"prompt": "query: "}, "prompt 'query: ': this model knows no prompts"),
        (["a"], {"truncate_dim": 8}, "truncate_dim=8: embeddings of this model cannot be cut"),
        (["a", np.zeros((4, 4, 3), np.uint8)], {}, "1 texts among 2 inputs, expected only texts or only images"),
        ([], {}, "nothing to encode: an empty list"),
    ],
)
def test_what_the_model_does_not_know_is_refused(encoder, inputs, settings, message):
    with pytest.raises(VSEError, match=message):
        encoder.encode(inputs, **settings)


def test_a_model_that_ranks_by_an_interaction_is_refused():
    model = VSE.from_pretrained(FOLDER / "saved" / "model")
    model.interaction = MaxSim()
    with pytest.raises(VSEError, match="a model with MaxSim, which compares sets of items"):
        SentenceEncoder(model)


def test_the_evaluator_of_sentence_transformers_finds_our_recalls(encoder, split):
    evaluation = pytest.importorskip("sentence_transformers.sentence_transformer.evaluation")
    images = pictures(split)
    search = evaluation.InformationRetrievalEvaluator(
        queries={str(row): text for row, text in enumerate(split.captions)},
        corpus={f"i{row}": image for row, image in enumerate(images)},
        relevant_docs={str(row): {f"i{image}"} for row, image in enumerate(split.caption_to_image)},
        accuracy_at_k=[1, 5, 10],
        write_csv=False,
    )
    found = search(encoder)
    assert encoder.model_card_data.metrics == found
    ours = image_caption_recalls(encoder.encode(images), encoder.encode(split.captions), split.caption_to_image)
    for k in (1, 5, 10):
        assert 100 * found[f"cosine_accuracy@{k}"] == pytest.approx(ours[f"t2i_r{k}"])

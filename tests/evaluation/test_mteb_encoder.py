"""mteb's tasks: its mock tasks run, and on one data set its hit rates are our recalls."""

import pytest
import torch
from PIL import Image

from tests.golden import FOLDER
from vse_gpo import VSE
from vse_gpo.data.shapes import ShapesDataset
from vse_gpo.data.split import Split
from vse_gpo.errors import VSEError
from vse_gpo.retrieval import image_caption_recalls

mteb = pytest.importorskip("mteb", reason="mteb is not installed; pip install 'vse_gpo[mteb]'")

from datasets import Dataset  # noqa: E402
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData  # noqa: E402
from mteb.mocks.mock_tasks.retrieval import MockAny2AnyRetrievalI2TTask, MockAny2AnyRetrievalT2ITask  # noqa: E402

from vse_gpo.evaluation.mteb_encoder import MTEBEncoder  # noqa: E402


@pytest.fixture(scope="module")
def model() -> VSE:
    return VSE.from_pretrained(FOLDER / "saved" / "model")


@pytest.fixture(scope="module")
def split() -> Split:
    return ShapesDataset(train=1, dev=1, test=25, size=32, captions=3, seed=0).split("test")


def scores_of(model: VSE, task) -> dict[str, float]:
    """Evaluated as its users do, without what it keeps or asks for elsewhere."""
    result = mteb.evaluate(
        MTEBEncoder(model, name="me/mine"), task, cache=None, co2_tracker=False, show_progress_bar=False
    )
    (found,) = result.task_results
    return found.scores["test"][0]


@pytest.mark.parametrize("task", [MockAny2AnyRetrievalI2TTask, MockAny2AnyRetrievalT2ITask])
def test_mock_tasks_run(model, task):
    assert 0 < scores_of(model, task())["ndcg_at_10"] <= 1


def pictures(split: Split) -> list[Image.Image]:
    return [Image.fromarray(split.images[row].permute(1, 2, 0).numpy()) for row in range(len(split.images))]


def of_split(task, split: Split):
    """The mock task with the images and captions of a split in place of its own."""
    texts = {"id": [f"t{row}" for row in range(len(split.captions))], "text": list(split.captions)}
    images = {"id": [f"i{row}" for row in range(len(split.images))], "image": pictures(split)}
    by_text = [(f"t{row}", f"i{image}") for row, image in enumerate(split.caption_to_image)]
    relevant: dict[str, dict[str, int]] = {}
    queries, corpus = (images, texts) if task.metadata.category == "i2t" else (texts, images)
    for text, image in by_text:
        query, item = (image, text) if task.metadata.category == "i2t" else (text, image)
        relevant.setdefault(query, {})[item] = 1
    data = RetrievalSplitData(
        queries=Dataset.from_dict(queries), corpus=Dataset.from_dict(corpus), relevant_docs=relevant, top_ranked=None
    )
    task.dataset, task.data_loaded = {"default": {"test": data}}, True
    task.load_data = lambda **_settings: None
    return task


@pytest.mark.parametrize(
    ("task", "direction"), [(MockAny2AnyRetrievalI2TTask, "i2t"), (MockAny2AnyRetrievalT2ITask, "t2i")]
)
def test_its_hit_rates_are_our_recalls(model, split, task, direction):
    found = scores_of(model, of_split(task(), split))
    ours = image_caption_recalls(
        model.encode_images(pictures(split)), model.encode_captions(split.captions), split.caption_to_image
    )
    assert 0 < ours[f"{direction}_r1"] < 100
    for k in (1, 5, 10):
        assert 100 * found[f"hit_rate_at_{k}"] == pytest.approx(ours[f"{direction}_r{k}"], abs=1e-3)  # it rounds


def test_its_tasks_of_flickr30k_and_coco_take_this_encoder(model):
    names = [f"{name}{way}Retrieval" for name in ("Flickr30k", "MSCOCO") for way in ("I2T", "T2I")]
    tasks = mteb.get_tasks(tasks=names)
    assert sorted(task.metadata.name for task in tasks) == sorted(names)
    known = set(MTEBEncoder(model, name="me/mine").mteb_model_meta.modalities)
    assert all(set(task.metadata.modalities) <= known for task in tasks)


def test_an_item_with_text_and_image_has_the_sum_of_both(model, split):
    images, texts = pictures(split)[:2], split.captions[:2]
    found = MTEBEncoder(model, name="me/mine").encode([{"text": texts, "image": images, "id": ["a", "b"]}])
    both = model.encode_images(images) + model.encode_captions(texts)
    torch.testing.assert_close(found, both / both.norm(dim=1, keepdim=True))


def test_results_are_kept_by_the_weights(model):
    meta = MTEBEncoder(model, name="me/mine").mteb_model_meta
    assert (meta.name, meta.revision) == ("me/mine", model.fingerprint())


@pytest.mark.parametrize("name", ["mine", "me/", "a/b/c"])
def test_a_name_that_mteb_cannot_show_is_refused(model, name):
    with pytest.raises(VSEError, match="expected account/name"):
        MTEBEncoder(model, name=name)


def test_other_modalities_are_refused(model):
    with pytest.raises(VSEError, match="a batch with audio, expected text or image"):
        MTEBEncoder(model, name="me/mine").encode([{"audio": [1]}])

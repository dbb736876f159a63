"""The embeddings of a whole split: every row once, in its order, as the model encodes it item by item."""

import pytest
import torch
from hydra.utils import instantiate

from tests.helpers.on_disk import CAPTIONS, FOLDER, write_images, write_texts
from tests.helpers.photo_folder import small_model
from tests.helpers.tiny import TinySource, tiny_data, tiny_module, tiny_trainer
from vse_gpo.batch import Indexed
from vse_gpo.data.images import ImageFiles
from vse_gpo.data.split import DiskDataset
from vse_gpo.errors import VSEError
from vse_gpo.evaluation.encoding import CAPTIONS as OF_CAPTIONS
from vse_gpo.evaluation.encoding import IMAGES, Collector, EmbeddingModule, encode_split, open_data
from vse_gpo.interaction import ScanTextToImage
from vse_gpo.model import VSE


@pytest.fixture(scope="module")
def model() -> VSE:
    return tiny_module().model.eval()


def item_by_item(model: VSE) -> tuple[torch.Tensor, torch.Tensor]:
    split = TinySource().split("test")
    return (
        torch.cat([model.encode_images([split.images[row]]) for row in range(len(split.images))]),
        torch.cat([model.encode_captions([caption]) for caption in split.captions]),
    )


def test_a_split_is_encoded_as_its_items_are(model):
    found = encode_split(model, tiny_data())
    for ours, expected in zip(found[:2], item_by_item(model), strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_trainer_encodes_the_same(model, tmp_path):
    module = EmbeddingModule(model)
    tiny_trainer(tmp_path, callbacks=[]).test(module, datamodule=tiny_data(), verbose=False)
    assert module.encoded is not None
    for ours, expected in zip(module.encoded[:2], encode_split(model, tiny_data())[:2], strict=True):
        torch.testing.assert_close(ours, expected)


def test_rows_come_in_any_order_and_twice_count_once(model):
    split = TinySource().split("test")
    images, captions = item_by_item(model)
    collector = Collector(model)
    for rows in ([5, 3], [*range(11)], [10, 0, 1]):
        inputs = model.prepare_images([split.images[row] for row in rows])
        collector.add(Indexed(inputs, torch.tensor(rows)), IMAGES)
    everything = torch.arange(len(split.captions)).flip(0)
    tokens = model.prepare_captions([split.captions[row] for row in everything])
    collector.add(Indexed(tokens, everything), OF_CAPTIONS)
    found = collector.gather(split.caption_to_image, processes=1)
    torch.testing.assert_close(found[0], images)
    torch.testing.assert_close(found[1], captions)


@pytest.mark.parametrize("batch_size", [3, 40])
def test_the_interaction_of_a_split_is_that_of_its_items_one_by_one(batch_size):
    model = tiny_module(interaction=ScanTextToImage()).model.eval()
    data = tiny_data(evaluation_batch_size=batch_size)
    found = encode_split(model, data)
    split = data.split("test")
    with torch.inference_mode():
        images = [
            model.image_encoder.output(model.prepare_images([split.images[row]]), with_items=True).items
            for row in range(len(split.images))
        ]
        captions = [
            model.text_encoder.output(model.prepare_captions([caption]), with_items=True).items
            for caption in split.captions
        ]
        expected = torch.stack([torch.cat([model.interaction(one, other)[0] for other in captions]) for one in images])
    torch.testing.assert_close(found.interaction, expected)
    torch.testing.assert_close(found.images, encode_split(tiny_module().model.eval(), data).images)
    assert found.similarities().image_caption.pairs(torch.tensor([2]), torch.tensor([3])) == found.interaction[2, 3]


def test_a_row_that_was_not_encoded_is_told_and_nothing_is_kept(model):
    split = TinySource().split("test")

    def some_images(rows: list[int]) -> None:
        inputs = model.prepare_images([split.images[row] for row in rows])
        collector.add(Indexed(inputs, torch.tensor(rows)), IMAGES)

    collector = Collector(model)
    some_images([0, 1, 2, 4])
    with pytest.raises(VSEError, match="7 of 11 images were not encoded; evaluate the whole split"):
        collector.gather(split.caption_to_image, processes=1)
    some_images([3])
    with pytest.raises(VSEError, match="10 of 11 images"):
        collector.gather(split.caption_to_image, processes=1)
    some_images([0])
    collector.clear()
    some_images([*range(10)])
    with pytest.raises(VSEError, match="1 of 11 images"):
        collector.gather(split.caption_to_image, processes=1)


def test_a_data_set_of_files_is_opened_as_the_model_takes_it(tmp_path):
    write_texts(tmp_path, "test")
    write_images(tmp_path, list(CAPTIONS))
    source = {"_target_": "vse_gpo.data.split.DiskDataset", "root": str(tmp_path), "open_images": None}
    dataset = {"source": source, "image_folder": FOLDER}

    def make_source(settings):
        assert settings["open_images"].func is ImageFiles
        return DiskDataset(root=settings["root"], open_images=settings["open_images"])

    model = small_model()
    data = open_data(model, dataset, make_source, split="test", batch_size=2, workers=0)
    found = encode_split(model, data)
    images, captions = found.images, found.captions
    assert found.interaction is None
    expected = model.encode_images([data.split("test").images[row] for row in range(len(CAPTIONS))])
    torch.testing.assert_close(images, expected, atol=1e-6, rtol=0)
    assert len(captions) == len(data.split("test").captions)
    assert source["open_images"] is None  # the settings stay as they were


def test_the_embedded_data_set_needs_no_files():
    sizes = {"train": 0, "dev": 0, "test": 3, "size": 32, "captions": 2, "seed": 0}
    dataset = {"source": {"_target_": "vse_gpo.data.shapes.ShapesDataset", **sizes}}
    data = open_data(small_model(), dataset, instantiate, split="test", batch_size=2, workers=0)
    found = encode_split(small_model(), data)
    assert (len(found.images), len(found.captions)) == (3, 6)

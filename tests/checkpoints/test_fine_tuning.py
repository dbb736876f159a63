"""A training that starts from a pretrained dual encoder gives the zero-shot embeddings before its first step."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.helpers.dual_training import dual_data, dual_module, open_gates, settings_of, start
from tests.helpers.photo_index import run_index, vectors
from tests.helpers.tiny import save_last, tiny_trainer
from tests.helpers.tiny_duals import CAPTIONS, FAMILIES, dual_folder, open_clip_folder, photographs
from vse_gpo import VSE
from vse_gpo.backbones.dual import tower_of
from vse_gpo.batch import Tokens
from vse_gpo.checkpoints.fine_tuning import dual_facts
from vse_gpo.errors import VSEError
from vse_gpo.model import build_model

pytestmark = pytest.mark.filterwarnings("ignore:captions are cut")


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory) -> Path:
    return dual_folder(request.param, tmp_path_factory.mktemp(request.param) / "model")


def embeddings(model: VSE) -> tuple[torch.Tensor, torch.Tensor]:
    return model.encode_images(photographs(8)), model.encode_captions(CAPTIONS)


def assert_equal(found: VSE, expected: VSE) -> None:
    for ours, theirs in zip(embeddings(found), embeddings(expected), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_step_0_is_zero_shot(folder):
    model, zero_shot = start(folder), VSE.from_pretrained(folder)
    assert_equal(model, zero_shot)
    assert model.logits.state_dict() == zero_shot.logits.state_dict()
    assert_equal(
        start(folder, "pooling=first", "backbone.network.tokens=false", "text.network.tokens=false"), zero_shot
    )
    open_gates(model)
    for ours, theirs in zip(embeddings(model), embeddings(zero_shot), strict=True):
        assert (ours - theirs).abs().max() > 1e-3


def test_a_model_is_the_same_after_saving_and_from_a_checkpoint(folder, tmp_path):
    model = start(folder)
    open_gates(model)
    model.save_pretrained(tmp_path / "saved")
    again = VSE.from_pretrained(shutil.move(tmp_path / "saved", tmp_path / "moved"))
    assert_equal(again, model)
    assert again.fingerprint() == model.fingerprint()
    assert again.logits.state_dict() == model.logits.state_dict()
    assert_equal(build_model(settings_of(folder), model.state_dict()), model)  # as a checkpoint is loaded


def test_the_items_are_what_the_tower_makes_of_each_token(folder):
    """Patch by patch; and of a tower that pools one of its tokens, that token's item is the embedding itself."""
    model = start(folder).eval()
    images, texts = model.image_encoder.backbone, model.text_encoder.backbone
    pixels = model.prepare_images(photographs(2))
    found = images(pixels)
    tower = tower_of(images.network)
    seen = tower(pixel_values=images.normalization(pixels)).last_hidden_state
    assert found.lengths.tolist() == [1 + tower.embeddings.num_patches] * 2
    for row, image in enumerate(seen[:, -tower.embeddings.num_patches :]):
        for place, patch in enumerate(image):
            if hasattr(tower, "head"):  # SigLIP's, of a set of this one patch
                expected = tower.head(patch[None, None])[0]
            else:
                expected = images.network.visual_projection(tower.post_layernorm(patch))
            torch.testing.assert_close(found.values[row, 1 + place], expected, atol=1e-5, rtol=0)
    tokens = model.prepare_captions(["a", "two dogs"])
    found = texts(tokens)
    assert torch.equal(found.lengths, tokens.lengths + 1)
    if not texts.pad_to:  # CLIP pools its last token, BERT its first
        same = [(row[0] - row[1:length]).abs().amax(1).min() for row, length in zip(*found, strict=True)]
        assert max(same) < 1e-5


def test_padding_changes_nothing(folder):
    """What the tower reads of padding is its own; what a batch adds is not read."""
    model = start(folder).eval()
    open_gates(model)
    tokens = model.prepare_captions(["a", "two dogs"])
    wider = Tokens(torch.nn.functional.pad(tokens.ids, (0, 3), value=5), tokens.lengths)
    torch.testing.assert_close(model.text_encoder(wider), model.text_encoder(tokens), atol=1e-6, rtol=0)


def test_every_weight_is_trained_and_belongs_to_a_layer(folder):
    model = start(folder)
    open_gates(model)
    images = model.image_encoder(model.prepare_images(photographs(2)))
    captions = model.text_encoder(model.prepare_captions(["a", "two dogs"]))
    (images @ captions.T).diagonal().sum().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []
    for encoder in (model.image_encoder, model.text_encoder):
        layers = encoder.backbone.layers()
        assert len(layers) == 3
        assert sorted(id(one) for layer in layers for one in layer) == sorted(map(id, encoder.backbone.parameters()))


def test_a_zero_shot_model_computes_no_tokens(folder):
    model = VSE.from_pretrained(folder)
    for encoder in (model.image_encoder, model.text_encoder):
        assert not encoder.backbone.tokens
        assert "tokens" not in encoder.backbone.architecture({})


def test_a_folder_that_cannot_be_trained_is_named(tmp_path):
    with pytest.raises(VSEError, match=r"backbone\.pretrained=/none/there: no such folder"):
        dual_facts("/none/there")
    with pytest.raises(VSEError, match=r"config\.json: cannot be read"):
        dual_facts(str(open_clip_folder(tmp_path / "open_clip")))
    strange = dual_folder("clip", tmp_path / "strange")
    config = strange / "preprocessor_config.json"
    for file in ("preprocessor_config.json", "processor_config.json"):
        if (strange / file).is_file():
            config = strange / file
    config.write_text(config.read_text().replace("{", '{"image_note": "${oc.env:HOME}", ', 1))
    with pytest.raises(VSEError, match=r"\$\{ in its files"):
        dual_facts(str(strange))


# after a training


@pytest.fixture(scope="module")
def tuned(tmp_path_factory) -> tuple[VSE, Path]:
    """A SigLIP after two epochs, the first with its image tower frozen, and the checkpoint of their end."""
    home = tmp_path_factory.mktemp("tuned")
    module = dual_module(dual_folder("siglip", home / "siglip"))
    trainer = tiny_trainer(home, max_epochs=2, callbacks=[save_last(home)])
    trainer.fit(module, datamodule=dual_data(module.model))
    return module.model.eval(), home / "last.ckpt"


def test_a_fine_tuned_model_is_the_same_saved_and_loaded(tuned, tmp_path):
    model, checkpoint = tuned
    zero_shot = VSE.from_pretrained(checkpoint.parent / "siglip")
    for ours, theirs in zip(embeddings(model), embeddings(zero_shot), strict=True):
        assert (ours - theirs).abs().max() > 1e-3
    VSE.from_pretrained(checkpoint).save_pretrained(tmp_path / "saved")
    for again in (VSE.from_pretrained(checkpoint), VSE.from_pretrained(tmp_path / "saved")):
        torch.testing.assert_close(embeddings(again), embeddings(model), atol=1e-5, rtol=0)
        assert again.fingerprint() == model.fingerprint()
        assert torch.equal(again.logits.log_scale, model.logits.log_scale)


def test_a_fine_tuned_model_is_the_same_in_an_index(tuned, tmp_path):
    model, checkpoint = tuned
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(photographs(6)):
        image.save(tmp_path / "pictures" / f"{number}.png")
    run_index(f"images={tmp_path}/pictures", f"out={tmp_path}/index", f"model={checkpoint}")
    found = vectors(tmp_path / "index")
    expected = model.encode_images(photographs(6))
    torch.testing.assert_close(torch.stack([found[f"{n}.png"] for n in range(6)]), expected, atol=1e-5, rtol=0)

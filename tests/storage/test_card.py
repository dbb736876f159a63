"""Model cards: what a model is and scores."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.helpers.photo_folder import small_model
from vse_gpo import VSE
from vse_gpo.errors import VSEError
from vse_gpo.storage import card as cards
from vse_gpo.storage.card import metrics_of_checkpoint, model_card, read_metrics

METRICS = {"coco_5k": {"i2t_r1": 58.3, "rsum": 432.16}, "coco_1k_5fold": {"rsum": 531.6}}


def test_a_card_tells_what_the_model_is_and_scores(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path / "model", card=model_card("me/vse", model.architecture(), METRICS))
    card = ModelCard.load(tmp_path / "model" / "README.md")
    results = {(one.dataset_name, one.metric_type): one.metric_value for one in card.data.eval_results}
    assert results == {(protocol, name): value for protocol, of in METRICS.items() for name, value in of.items()}
    assert card.data.model_name == "vse"
    assert "small_grid" in card.text
    assert 'VSE.from_pretrained("me/vse")' in card.text
    assert VSE.from_pretrained(tmp_path / "model").fingerprint() == model.fingerprint()
    assert ModelCard(str(model_card("vse", model.architecture(), {}))).data.library_name == "vse_gpo"


def test_the_metrics_of_a_run_are_those_of_the_checkpoint_that_was_tested(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    written = {"val/best_rsum": 3.0, "best_checkpoint": "/gone/checkpoints/best.ckpt", "epochs": 2}
    (run / "metrics.json").write_text(json.dumps(written))
    best = run / "checkpoints" / "best.ckpt"
    assert metrics_of_checkpoint(best) == {}  # not tested
    with pytest.raises(VSEError, match="no test metrics in it"):
        read_metrics(run / "metrics.json")
    (run / "metrics.json").write_text(json.dumps(written | {"test/all/rsum": 5, "test/ema/all/rsum": 6}))
    assert metrics_of_checkpoint(best) == read_metrics(run / "metrics.json") == {"all": {"rsum": 5.0}}
    assert metrics_of_checkpoint(best.with_name("best_ema.ckpt")) == {"all": {"rsum": 6.0}}
    assert metrics_of_checkpoint(best.with_name("last.ckpt")) == {}
    assert metrics_of_checkpoint(Path("model_best.pth")) == {}
    (run / "metrics.json").write_text("{")
    for read in (lambda: read_metrics(run / "metrics.json"), lambda: metrics_of_checkpoint(best)):
        with pytest.raises(VSEError, match=r"metrics\.json: cannot be read"):
            read()


def test_scores_of_a_test_are_told_by_protocol_and_those_of_averaged_weights_apart():
    results = {"val/best_rsum": 1.0, "test/all/rsum": 2, "test/all/i2t_r1": 3, "test/ema/coco_5k/rsum": 4}
    assert cards.tested_scores(results) == {"all": {"rsum": 2.0, "i2t_r1": 3.0}, "ema/coco_5k": {"rsum": 4.0}}

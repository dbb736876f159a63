"""What a run's test split, encoded again, tells of its queries."""

from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from vse_gpo.cli.run import config_folder
from vse_gpo.data.split import Split
from vse_gpo.model import VSE
from vse_gpo.reporting.queries import build_data, run_test
from vse_gpo.retrieval import image_caption_recalls


@pytest.fixture(scope="module")
def untrained():
    """A model of the embedded data set, and the data set's settings."""
    sizes = [f"dataset.source.{split}={images}" for split, images in (("train", 4), ("dev", 4), ("test", 9))]
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose("train", [*sizes, "interaction=none"])
    model: VSE = instantiate(config.model).eval()
    return model, OmegaConf.to_container(config.dataset, resolve=True)


def split_of(dataset: dict[str, Any]) -> Split:
    split: Split = build_data(dataset["source"]).split(dataset["test_split"])
    return split


def test_scores_are_those_of_the_embeddings(untrained):
    model, dataset = untrained
    split = split_of(dataset)
    images = model.encode_images([split.images[row] for row in range(len(split.images))])
    expected = image_caption_recalls(images, model.encode_captions(split.captions), split.caption_to_image)
    scores = run_test(model, dataset, 1, 0).scores["all"]
    assert {name: scores.metrics[name] for name in expected} == pytest.approx(expected)
    low, high = scores.intervals["rsum"]
    assert low <= scores.metrics["rsum"] <= high


def test_the_worst_queries_are_worse_than_the_best_and_show_what_they_found(untrained):
    model, dataset = untrained
    split = split_of(dataset)
    examples = run_test(model, dataset, 2, 0).examples
    assert list(examples) == [
        f"{title}: the {kind}" for title in ("Image → captions", "Caption → images") for kind in ("worst", "best")
    ]
    for title in ("Image → captions", "Caption → images"):
        worst, best = examples[f"{title}: the worst"], examples[f"{title}: the best"]
        assert len(worst) == len(best) == 2
        assert min(shown.rank for shown in worst) >= max(shown.rank for shown in best)
        for shown in (*worst, *best):
            assert shown.found[0].right == (shown.rank == 1)
    for shown in examples["Caption → images: the best"]:
        assert shown.query.text in split.captions
        assert all(item.picture.startswith("data:image/png;base64,") for item in shown.found)

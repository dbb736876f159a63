"""ECCV Caption and plausible matches against the benchmark's package and plain loops."""

import warnings

import numpy as np
import pytest
import torch

from tests.helpers.coco_order import coco_test_order
from vse_gpo.retrieval.annotations import CocoRows, CrisscrossedCaptions, eccv_folder, read_positives
from vse_gpo.retrieval.counts import Pairs
from vse_gpo.retrieval.crisscrossed import CrisscrossedRecalls
from vse_gpo.retrieval.eccv import ListedPositives, average_precision_at_r, eccv_scores, plausible_scores, r_precision
from vse_gpo.retrieval.protocols import Gallery, run_protocols
from vse_gpo.retrieval.similarity import Matrix, matrix_similarities, similarities


def random_embeddings(owners: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Captions near their image, images in clusters: hits and misses of every kind."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5000, 24, generator=generator)
    images += 2 * torch.randn(300, 24, generator=generator)[torch.arange(5000) % 300]
    captions = torch.randn(25000, 24, generator=generator) + images[torch.from_numpy(owners)]
    return torch.nn.functional.normalize(images, dim=1), torch.nn.functional.normalize(captions, dim=1)


def test_every_metric_equals_the_package_of_the_benchmark():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it prefers a faster JSON reader
        from eccv_caption import Metrics as Package  # noqa: PLC0415
    image_ids, caption_ids, owners = coco_test_order()
    images, captions = random_embeddings(owners)
    matrix = images.double() @ captions.double().T
    names, sentences = np.array(image_ids), np.array(caption_ids)
    lists = {  # of 200 and more items at least 10 are in a query's fold
        "i2t_retrieved_items": dict(zip(image_ids, sentences[matrix.topk(300).indices].tolist(), strict=True)),
        "t2i_retrieved_items": dict(zip(caption_ids, names[matrix.T.topk(200).indices].tolist(), strict=True)),
    }
    expected = Package().compute_all_metrics(
        **lists,
        target_metrics=(
            "coco_1k_r1",
            "coco_5k_recalls",
            "cxc_recalls",
            "eccv_r1",
            "eccv_map_at_r",
            "eccv_rprecision",
        ),
        Ks=(1, 5, 10),
    )

    rows = CocoRows([str(one) for one in image_ids], [str(one) for one in caption_ids])
    i2t, t2i = read_positives(eccv_folder(), "cxc")
    found = run_protocols(
        Gallery(similarities=similarities(images, captions), caption_to_image=owners),
        ["coco_1k_5fold", "coco_5k", "cxc", "eccv"],
        {
            "cxc": CrisscrossedRecalls(CrisscrossedCaptions(variant="package", i2t=i2t, t2i=t2i, t2t=[], i2i=[]), rows),
            "eccv": ListedPositives(*read_positives(eccv_folder(), "eccv"), rows, eccv_scores, "eccv"),
        },
    )
    metrics = {
        f"{protocol}_{name}": value for protocol, outcome in found.items() for name, value in outcome.metrics().items()
    }
    protocols = {"coco_1k": "coco_1k_5fold", "coco_5k": "coco_5k", "cxc": "cxc", "eccv": "eccv"}
    compared = 0
    for name, directions in expected.items():
        benchmark = next(prefix for prefix in protocols if name.startswith(prefix))
        for direction, value in directions.items():
            key = f"{protocols[benchmark]}_{direction}_{name.removeprefix(benchmark + '_')}"
            assert metrics[key] == pytest.approx(100 * value, abs=1e-6), key
            compared += 1
    assert compared == 2 * (1 + 3 + 3 + 3)
    assert len(found["eccv"].queries[0].rows) == 1261
    assert len(found["eccv"].queries[1].rows) == 1332
    assert len(found["cxc"].queries[1].rows) == 24972


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [([0, 1, 2], 1.0), ([1], 0.0), ([0, 2], 0.5), ([1, 2, 9], (1 / 2 + 2 / 3) / 3)],
)
def test_average_precision_stops_at_r(ranks, expected):
    assert average_precision_at_r(np.array(ranks), len(ranks)) == pytest.approx(expected)


def plain_lists(similarity: list[list[float]], matches: dict[int, set[int]]) -> dict[int, list[bool]]:
    """Whether each item of each query's ranking is a positive; those are last among equals."""
    ranked = {}
    for query, own in matches.items():
        order = sorted(range(len(similarity[query])), key=lambda item: (-similarity[query][item], item in own))
        ranked[query] = [item in own for item in order]
    return ranked


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_a_plain_loop_with_many_ties(seed):
    random = np.random.default_rng(seed)
    values = torch.from_numpy(random.integers(0, 5, (6, 14))).double()
    i2t = sorted({(int(i), int(c)) for i, c in random.integers((6, 14), size=(15, 2))})
    rows = CocoRows([str(n) for n in range(6)], [str(n) for n in range(14)])
    owners = np.concatenate([np.arange(6), np.zeros(8, dtype=np.int64)])
    test = Gallery(similarities=matrix_similarities(values), caption_to_image=owners)
    t2i = [(c, i) for i, c in i2t]
    eccv = ListedPositives(i2t, t2i, rows, eccv_scores, "eccv")(test).metrics()
    plausible = ListedPositives(i2t, t2i, rows, plausible_scores, "pmrp")(test).metrics()
    for direction, matrix, pairs in (("i2t", values, i2t), ("t2i", values.T, t2i)):
        matches = {query: {item for one, item in pairs if one == query} for query, _ in pairs}
        first, share, mean = [], [], []
        for query, hits in plain_lists(matrix.tolist(), matches).items():
            r = len(matches[query])
            first.append(hits[0])
            share.append(sum(hits[:r]) / r)
            mean.append(sum(sum(hits[: n + 1]) / (n + 1) for n in range(r) if hits[n]) / r)
        assert eccv[f"{direction}_r1"] == pytest.approx(100 * np.mean(first))
        assert eccv[f"{direction}_rprecision"] == pytest.approx(100 * np.mean(share))
        assert eccv[f"{direction}_map_at_r"] == pytest.approx(100 * np.mean(mean))
        assert plausible[f"{direction}_rprecision"] == pytest.approx(100 * np.mean(share))


def test_a_collapsed_gallery_has_no_precision():
    same = Matrix(torch.ones(2, 40))
    positives = Pairs(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 2]))
    assert r_precision(same, positives, np.array([2, 1])).tolist() == [0.0, 0.0]

"""CLIP_benchmark's files: its keys, its names of data sets, and numbers as its program computes them."""

import json

import numpy as np
import pytest
import torch

from vse_gpo.evaluation.annotated import read_annotations
from vse_gpo.evaluation.clip_benchmark import benchmark_row, write_benchmark
from vse_gpo.evaluation.results import Result
from vse_gpo.evaluation.scoring import score
from vse_gpo.retrieval.embeddings import Encoded, encoded
from vse_gpo.retrieval.recalls import Outcome


def source(images: int = 30) -> Encoded:
    draws = torch.Generator().manual_seed(0)
    index = np.arange(images).repeat(3)
    vectors = torch.randn(images, 8, generator=draws)
    texts = vectors[index] + 1.5 * torch.randn(len(index), 8, generator=draws)
    return encoded(vectors, texts, caption_to_image=index)


def plain_recalls(test: Encoded) -> dict[str, float]:
    """A query scores 1 if any of its matches is among the first k."""
    images, captions = test.embeddings
    scores, found = captions @ images.T, {}
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(captions)), torch.as_tensor(test.caption_to_image)] = True
    for k in (1, 5, 10):
        for name, rows, right in (("image", scores, positive), ("text", scores.T, positive.T)):
            hits = [right[query, row.topk(k).indices].any().item() for query, row in enumerate(rows)]
            found[f"{name}_retrieval_recall@{k}"] = float(np.mean(hits))
    return found


def results(*protocols: str, test: Encoded | None = None) -> list[Result]:
    return score({"ours": test or source()}, protocols, read_annotations(protocols))


def test_a_row_has_the_keys_and_the_numbers_of_clip_benchmark():
    (result,) = results("all")
    row = benchmark_row(result, "runs/ours.ckpt")
    assert row.pop("metrics") == pytest.approx(plain_recalls(source()))
    assert row == {
        "dataset": "all",
        "model": "ours",
        "pretrained": "runs/ours.ckpt",
        "task": "zeroshot_retrieval",
        "language": "en",
    }


def test_only_its_own_test_sets_have_its_names():
    (result,) = results("f30k_1k", test=source(1000))
    assert benchmark_row(result, "")["dataset"] == "flickr30k"
    for protocol, expected in (
        ("coco_5k", "mscoco_captions"),
        ("coco_5k+qbnorm", "mscoco_captions+qbnorm"),
        ("coco_1k_5fold", "coco_1k_5fold"),
    ):
        named = Result(source="ours", protocol=protocol, variant="", outcome=result.outcome, intervals={}, published={})
        assert benchmark_row(named, "")["dataset"] == expected


def test_each_protocol_has_a_file_and_scores_of_another_kind_have_none(tmp_path):
    (result,) = results("all")
    other = Result(source="ours", protocol="cxc_correlation", variant="", outcome=Outcome(), intervals={}, published={})
    write_benchmark(tmp_path / "out", [result, other], {"ours": "account/model"})
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == "all_ours_en_zeroshot_retrieval.json"
    assert json.loads(path.read_text()) == benchmark_row(result, "account/model")

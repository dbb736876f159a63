"""Exact search beside FAISS: the same images, scores and order, ties included."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vse_gpo.search.kinds import faiss
from vse_gpo.search.scan import DeviceScan


@given(
    images=st.integers(1, 200),
    copies=st.integers(0, 200),
    width=st.sampled_from([3, 16, 64]),
    queries=st.integers(1, 4),
    top=st.integers(1, 200),
    seed=st.integers(0, 10_000),
)
def test_answers_are_those_of_faiss(images, copies, width, queries, top, seed):
    random = np.random.default_rng(seed)
    embeddings = random.standard_normal((images, width)).astype(np.float32)
    embeddings[random.integers(0, images, copies)] = embeddings[0]  # ties
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    exact = faiss.IndexFlatIP(width)
    exact.add(embeddings)
    asked = np.concatenate([embeddings[:1], random.standard_normal((queries, width)).astype(np.float32)])
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    scan, top = DeviceScan(exact, embeddings, torch.device("cpu")), min(top, images)
    for query in asked:  # of many at once, FAISS computes scores in another way
        for found, expected in zip(scan.search(query[None], top), exact.search(query[None], top), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_answers():
    random = np.random.default_rng(0)
    embeddings = random.standard_normal((5000, 256)).astype(np.float32)
    embeddings[random.integers(0, 5000, 3000)] = embeddings[0]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    exact = faiss.IndexFlatIP(256)
    exact.add(embeddings)
    scan = DeviceScan(exact, embeddings, torch.device("cuda"))
    for row in range(20):
        query = embeddings[row : row + 1]
        for found, expected in zip(scan.search(query, 50), exact.search(query, 50), strict=True):
            np.testing.assert_array_equal(found, expected)

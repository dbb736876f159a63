import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import assert_close, load
from vse_gpo.losses import InfoNCE, TripletLoss


@pytest.mark.parametrize(("name", "hardest"), [("sum", False), ("hardest", True)])
def test_loss_and_gradients_equal_the_released_program(name, hardest):
    golden = load("triplet_loss")
    images, captions = golden["images"].requires_grad_(), golden["captions"].requires_grad_()
    loss = TripletLoss(margin=0.2)(images @ captions.T, hardest=hardest)
    loss.backward()
    assert_close(loss, golden[f"{name}/loss"])
    assert_close(images.grad, golden[f"{name}/grad_images"])
    assert_close(captions.grad, golden[f"{name}/grad_captions"])


def plain_loss(similarity: list[list[float]], margin: float, hardest: bool, same: list[int]) -> float:
    """Query by query, negative by negative; ``same`` holds each pair's image."""
    size = len(similarity)
    total = 0.0
    for query in range(size):
        captions, images = [0.0], [0.0]
        for other in range(size):
            if other != query and same[other] != same[query]:
                captions.append(max(0.0, margin - similarity[query][query] + similarity[query][other]))
                images.append(max(0.0, margin - similarity[query][query] + similarity[other][query]))
        total += (max if hardest else sum)(captions) + (max if hardest else sum)(images)
    return total


@given(st.integers(1, 6), st.booleans(), st.booleans(), st.integers(0, 2**16))
def test_loss_equals_a_plain_loop(size, hardest, masked, seed):
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.rand(size, size, generator=generator, dtype=torch.float64)
    same = torch.randint(size, (size,), generator=generator) if masked else torch.arange(size)
    not_negative = same[:, None] == same[None, :] if masked else None
    found = TripletLoss(margin=0.3)(similarity, hardest, not_negative)
    assert found.item() == pytest.approx(plain_loss(similarity.tolist(), 0.3, hardest, same.tolist()))


@pytest.mark.parametrize("hardest", [True, False])
def test_gradients_equal_finite_differences(hardest):
    similarity = torch.rand(5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: TripletLoss()(s, hardest), similarity)


def test_collapsed_embeddings_give_twice_the_batch_times_the_margin():
    assert TripletLoss(margin=0.2)(torch.ones(128, 128)).item() == pytest.approx(51.2, rel=1e-5)


def plain_infonce(similarity: list[list[float]], scale: float, same: list[int]) -> float:
    """Query by query: minus the log of the positive's share of the softmax."""
    size = len(similarity)
    total = 0.0
    for query in range(size):
        for row in (similarity[query], [similarity[image][query] for image in range(size)]):
            others = [j for j in range(size) if j == query or same[j] != same[query]]
            total += math.log(sum(math.exp(scale * (row[j] - row[query])) for j in others))
    return total / 2


@given(st.integers(1, 6), st.booleans(), st.integers(0, 2**16))
def test_infonce_equals_a_plain_loop(size, masked, seed):
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.rand(size, size, generator=generator, dtype=torch.float64)
    same = torch.randint(size, (size,), generator=generator) if masked else torch.arange(size)
    not_negative = same[:, None] == same[None, :] if masked else None
    found = InfoNCE(temperature=0.1)(similarity, not_negative=not_negative)
    assert found.item() == pytest.approx(plain_infonce(similarity.tolist(), 10.0, same.tolist()), rel=1e-5, abs=1e-9)


def test_infonce_trains_its_temperature_when_told_so():
    loss = InfoNCE(temperature=0.05, learnable=True)
    loss(torch.rand(4, 4)).backward()
    assert loss.log_scale.grad.abs() > 0
    assert loss.log_scale.exp().item() == pytest.approx(20.0)
    assert not InfoNCE(learnable=False).log_scale.requires_grad

import math
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.golden import assert_close, load
from vse_gpo.cli.run import config_folder
from vse_gpo.errors import VSEError
from vse_gpo.losses import InfoNCE, PairLogits, PhasedLoss, SigmoidLoss, TripletLoss, share_logits

MARGIN, TEMPERATURE, BIAS = 0.3, 0.1, -2.0
FAMILY = {
    "triplet": TripletLoss(MARGIN),
    "softmax": InfoNCE(TEMPERATURE),
    "softmax with margin": InfoNCE(TEMPERATURE, margin=MARGIN),
    "sigmoid": SigmoidLoss(TEMPERATURE, BIAS),
    "phased": PhasedLoss(all_negatives=InfoNCE(TEMPERATURE), hardest_negatives=TripletLoss(MARGIN)),
}
every_loss = pytest.mark.parametrize("name", FAMILY)


@pytest.mark.parametrize(("name", "hardest"), [("sum", False), ("hardest", True)])
def test_loss_and_gradients_equal_the_released_program(name, hardest):
    golden = load("triplet_loss")
    images, captions = golden["images"].requires_grad_(), golden["captions"].requires_grad_()
    loss = TripletLoss(margin=0.2)(images @ captions.T, hardest=hardest)
    loss.backward()
    assert_close(loss, golden[f"{name}/loss"])
    assert_close(images.grad, golden[f"{name}/grad_images"])
    assert_close(captions.grad, golden[f"{name}/grad_captions"])


# plain loops: query by query, negative by negative; ``same`` holds each pair's image

Matrix = list[list[float]]


def plain_triplet(similarity: Matrix, same: list[int], hardest: bool) -> float:
    size = len(similarity)
    total = 0.0
    for query in range(size):
        captions, images = [0.0], [0.0]
        for other in range(size):
            if other != query and same[other] != same[query]:
                captions.append(max(0.0, MARGIN - similarity[query][query] + similarity[query][other]))
                images.append(max(0.0, MARGIN - similarity[query][query] + similarity[other][query]))
        total += (max if hardest else sum)(captions) + (max if hardest else sum)(images)
    return total


def plain_softmax(similarity: Matrix, same: list[int], margin: float) -> float:
    """Minus the log of the positive's share of the softmax, the mean of both directions."""
    size = len(similarity)
    total = 0.0
    for query in range(size):
        positive = (similarity[query][query] - margin) / TEMPERATURE
        for row in (similarity[query], [similarity[image][query] for image in range(size)]):
            others = [row[j] / TEMPERATURE for j in range(size) if same[j] != same[query]]
            total -= math.log(math.exp(positive) / (math.exp(positive) + sum(map(math.exp, others))))
    return total / 2


def plain_sigmoid(similarity: Matrix, same: list[int]) -> float:
    total = 0.0
    for i, row in enumerate(similarity):
        for j, value in enumerate(row):
            sign = 1 if i == j else -1
            if i == j or same[i] != same[j]:
                total += math.log(1 + math.exp(-sign * (value / TEMPERATURE + BIAS)))
    return total


ORACLES = {
    "triplet": plain_triplet,
    "softmax": lambda similarity, same, hardest: plain_softmax(similarity, same, 0.0),
    "softmax with margin": lambda similarity, same, hardest: plain_softmax(similarity, same, MARGIN),
    "sigmoid": lambda similarity, same, hardest: plain_sigmoid(similarity, same),
    "phased": lambda similarity, same, hardest: (
        plain_triplet(similarity, same, hardest) if hardest else plain_softmax(similarity, same, 0.0)
    ),
}


def drawn(size: int, seed: int, *, shared_images: bool = False) -> tuple[Tensor, Tensor]:
    """A matrix of cosines and each pair's image."""
    generator = torch.Generator().manual_seed(seed)
    similarity = 2 * torch.rand(size, size, generator=generator, dtype=torch.float64) - 1
    same = torch.randint(size, (size,), generator=generator) if shared_images else torch.arange(size)
    return similarity, same


def mask(same: Tensor) -> Tensor:
    return same[:, None] == same[None, :]


@every_loss
@given(st.integers(1, 6), st.booleans(), st.booleans(), st.integers(0, 2**16))
def test_a_loss_equals_a_plain_loop(name, size, hardest, shared_images, seed):
    similarity, same = drawn(size, seed, shared_images=shared_images)
    found = FAMILY[name](similarity, hardest, mask(same) if shared_images else None)
    expected = ORACLES[name](similarity.tolist(), same.tolist(), hardest)
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-9)


@every_loss
@pytest.mark.parametrize("hardest", [True, False])
@pytest.mark.parametrize("shared_images", [True, False])
def test_gradients_equal_finite_differences(name, hardest, shared_images):
    similarity, same = drawn(5, 1, shared_images=shared_images)
    not_negative = mask(same) if shared_images else None
    loss = deepcopy(FAMILY[name]).double()
    inputs = (similarity.requires_grad_(), *loss.parameters())

    def function(s: Tensor, *parameters: Tensor) -> Tensor:
        return loss(s, hardest, not_negative) + 0.0 * sum(parameters)  # not every phase takes all of them

    assert torch.autograd.gradcheck(function, inputs)


# what every loss keeps to


@every_loss
@given(st.integers(1, 6), st.booleans(), st.integers(0, 2**16), st.floats(0.01, 1.0))
def test_better_positives_lower_the_loss_and_better_negatives_raise_it(name, size, hardest, seed, step):
    similarity, _ = drawn(size, seed)
    loss = FAMILY[name]
    before = loss(similarity, hardest)
    assert loss(similarity + step * torch.eye(size), hardest) <= before
    assert loss(similarity + step * (1 - torch.eye(size)), hardest) >= before - 1e-12


@every_loss
@given(st.integers(2, 6), st.integers(0, 2**16))
def test_a_positive_under_its_negatives_is_pulled_up(name, size, seed):
    similarity, _ = drawn(size, seed)
    similarity = similarity - 3 * torch.eye(size)
    similarity.requires_grad_()
    FAMILY[name](similarity).backward()
    assert (similarity.grad.diagonal() < 0).all()


@every_loss
@pytest.mark.parametrize("hardest", [True, False])
def test_images_and_captions_count_alike_in_any_order(name, hardest):
    similarity, _ = drawn(6, 3)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    expected = FAMILY[name](similarity, hardest)
    torch.testing.assert_close(FAMILY[name](similarity.T, hardest), expected)
    torch.testing.assert_close(FAMILY[name](similarity[order][:, order], hardest), expected)


@every_loss
@pytest.mark.parametrize("hardest", [True, False])
def test_what_is_no_negative_has_no_gradient_and_the_positives_keep_theirs(name, hardest):
    similarity, _ = drawn(4, 4)
    similarity = (similarity - torch.eye(4)).requires_grad_()
    not_negative = mask(torch.tensor([0, 0, 1, 2]))
    FAMILY[name](similarity, hardest, not_negative).backward()
    assert similarity.grad[0, 1] == similarity.grad[1, 0] == 0
    assert (similarity.grad.diagonal() < 0).all()


@every_loss
def test_a_single_pair_has_no_negatives(name):
    expected = dict.fromkeys(FAMILY, 0.0) | {"sigmoid": math.log(1 + math.exp(-3))}
    for not_negative in (None, torch.ones(1, 1, dtype=torch.bool)):
        found = FAMILY[name](torch.tensor([[0.5]]), True, not_negative)
        assert found.item() == pytest.approx(expected[name], rel=1e-6)


# one by one


def test_collapsed_embeddings_give_twice_the_batch_times_the_margin():
    assert TripletLoss(margin=0.2)(torch.ones(128, 128)).item() == pytest.approx(51.2, rel=1e-5)


def test_a_margin_makes_the_softmax_harder():
    similarity, _ = drawn(5, 5)
    losses = [InfoNCE(TEMPERATURE, margin=margin)(similarity).item() for margin in (0.0, 0.1, 0.3)]
    assert losses == sorted(losses)
    assert losses[0] < losses[1]


@pytest.mark.parametrize("loss", [InfoNCE, SigmoidLoss])
def test_a_temperature_trains_when_told_so(loss):
    learned = loss(temperature=0.05, learnable=True)
    learned(torch.rand(4, 4)).backward()
    assert all(parameter.grad.abs() > 0 for parameter in learned.parameters())
    assert learned.log_scale.exp().item() == pytest.approx(20.0)
    assert not any(parameter.requires_grad for parameter in loss(learnable=False).parameters())


def test_the_sigmoid_loss_begins_as_published():
    loss = SigmoidLoss()
    assert (loss.log_scale.item(), loss.bias.item()) == (pytest.approx(math.log(10)), -10.0)


def shipped(option: str) -> nn.Module:
    with initialize_config_dir(config_folder(), version_base="1.3"):
        return instantiate(compose("train", [f"loss={option}"]).loss)


@pytest.mark.parametrize("option", sorted(path.stem for path in (Path(config_folder()) / "loss").glob("*.yaml")))
def test_every_shipped_loss_builds_with_its_published_values(option):
    loss = shipped(option)
    similarity = torch.eye(4)
    expected = {
        "triplet": TripletLoss(0.2),
        "joint": TripletLoss(0.2),
        "infonce": InfoNCE(0.05),
        "margin_softmax": InfoNCE(0.05, margin=0.3),
        "sigmoid": SigmoidLoss(0.1, -10.0),
        "softmax_then_triplet": PhasedLoss(all_negatives=InfoNCE(0.05), hardest_negatives=TripletLoss(0.2)),
        "infonce_pretrained": InfoNCE(1.0),  # until it shares a model's logits
        "sigmoid_pretrained": SigmoidLoss(1.0, 0.0),
    }[option]
    assert type(loss) is type(expected)
    assert all(loss(similarity, hard).item() == expected(similarity, hard).item() for hard in (True, False))


@pytest.mark.parametrize("loss", [InfoNCE, SigmoidLoss])
@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_above_zero_is_refused(loss, temperature):
    with pytest.raises(VSEError, match="expected above 0"):
        loss(temperature=temperature)


def test_pair_logits_scale_and_shift_and_are_saved_but_not_trained():
    logits = PairLogits(log_scale=math.log(100), bias=-10)
    torch.testing.assert_close(logits(torch.tensor([[0.5, -0.1]])), torch.tensor([[40.0, -20.0]]))
    assert [*logits.parameters()] == []
    assert set(logits.state_dict()) == {"log_scale", "bias"}


def pretrained_losses() -> dict[str, nn.Module]:
    """Losses that take the scale of a pretrained model, and the bias of one."""
    softmax = InfoNCE(None)
    return {
        "softmax": softmax,
        "softmax with margin": InfoNCE(None, margin=MARGIN),
        "sigmoid": SigmoidLoss(None, None),
        "phased": PhasedLoss(all_negatives=softmax, hardest_negatives=TripletLoss(MARGIN)),
    }


@pytest.mark.parametrize("name", pretrained_losses())
@pytest.mark.parametrize("hardest", [False, True])
def test_a_loss_starts_from_the_logits_of_a_pretrained_model_and_trains_them(name, hardest):
    logits, loss = PairLogits(-math.log(TEMPERATURE), BIAS), pretrained_losses()[name]
    share_logits(loss, logits)
    similarity = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value = loss(similarity, hardest)
    expected = ORACLES[name](similarity.tolist(), [0, 1, 2, 3], hardest)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    before = {part: number.item() for part, number in logits.state_dict().items()}
    if any(parameter.requires_grad for parameter in loss.parameters()) and not (name == "phased" and hardest):
        value.backward()
        torch.optim.SGD(loss.parameters(), lr=0.1).step()
        assert logits.log_scale.item() != before["log_scale"]
        assert (logits.bias.item() != before["bias"]) is (name == "sigmoid")
    scale, bias = logits.log_scale.exp().item(), logits.bias.item()
    torch.testing.assert_close(logits(similarity), similarity * scale + bias, check_dtype=False)
    again = PairLogits()
    again.load_state_dict(logits.state_dict())  # a saved model has them as constants
    assert dict(again.named_parameters()) == {}


def test_a_loss_keeps_a_temperature_that_is_set_and_gives_it_to_the_model():
    logits = PairLogits(1.0, -3.0)
    share_logits(SigmoidLoss(TEMPERATURE, None), logits)
    assert (logits.log_scale.item(), logits.bias.item()) == pytest.approx((-math.log(TEMPERATURE), -3.0))
    constant = PairLogits(1.0)
    share_logits(TripletLoss(), constant)
    assert dict(constant.named_parameters()) == {}


@pytest.mark.parametrize(("loss", "setting"), [(InfoNCE(None), "temperature"), (SigmoidLoss(0.1, None), "bias")])
def test_a_model_without_logits_has_none_to_start_from(loss, setting):
    with pytest.raises(VSEError, match=rf"loss\.{setting}=null: the model brings none of its own"):
        share_logits(loss, None)

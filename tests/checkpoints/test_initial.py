"""A model that starts from the weights of another one: what is taken, what is left, and what is told."""

import pytest
import torch
from torch import Tensor, nn

from vse_gpo.checkpoints.initial import start_from
from vse_gpo.errors import VSEError


def network(*, words: int = 5, pooling: bool = True, trunk: int = 2) -> nn.Module:
    """Parts as an encoder's, with a statistic among the weights."""
    torch.manual_seed(words)
    parts: dict[str, nn.Module] = {
        "image": nn.ModuleDict({"trunk": nn.Sequential(*(nn.Linear(2, 2) for _ in range(trunk)))}),
        "text": nn.ModuleDict({"embed": nn.Embedding(words, 2), "norm": nn.BatchNorm1d(2)}),
    }
    return nn.ModuleDict(parts | ({"pooling": nn.Linear(2, 1)} if pooling else {}))


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_all_weights_are_taken():
    model, other = network(), network(words=5)
    nn.init.ones_(other["image"]["trunk"][0].weight)
    line = start_from(model, other.state_dict(), source="other.pth")
    assert line == "init=other.pth: starts from 12 of the model's 12 weights"
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_what_is_left_out_stays_as_it_was():
    model, other = network(words=5), network(words=7, pooling=False)
    before = copied(model)
    line = start_from(model, other.state_dict(), source="a", left_out=["text.embed", "pooling"])
    assert line == "init=a: starts from 9 of the model's 12 weights, all but text.embed, pooling"
    for name, value in model.state_dict().items():
        kept = name.startswith(("text.embed", "pooling"))
        assert torch.equal(value, before[name] if kept else other.state_dict()[name])


@pytest.mark.parametrize(
    ("other", "told", "left_out"),
    [
        ({"words": 7}, "text.embed (weight is 7×2, expected 5×2)", ["text.embed"]),
        ({"pooling": False}, "pooling (2 missing)", ["pooling"]),
        ({"trunk": 3}, "image.trunk.2 (2 extra)", ["image.trunk.2"]),
        (
            {"words": 7, "trunk": 1},
            "image.trunk.1 (2 missing), text.embed (weight is 7×2, expected 5×2)",
            ["image.trunk.1", "text.embed"],
        ),
    ],
)
def test_what_does_not_fit_is_named_in_one_line_with_what_to_set(other, told, left_out):
    model = network()
    before, weights = copied(model), network(**other).state_dict()
    with pytest.raises(VSEError) as error:
        start_from(model, weights, source="other.pth")
    remedy = f"set what its weights were trained with, or leave these parts out: init_skip=[{','.join(left_out)}]"
    assert str(error.value) == f"init=other.pth does not fit the model: {told}; {remedy}"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    start_from(model, weights, source="other.pth", left_out=left_out)


def test_the_line_adds_to_what_is_left_out_already_and_stays_short():
    model = nn.ModuleDict({f"part{n}": nn.Linear(2, 2) for n in range(10)} | {"same": nn.Linear(1, 1)})
    weights = {name: value[:1] for name, value in model.state_dict().items()}
    with pytest.raises(VSEError) as error:
        start_from(model, weights, source="other.pth", left_out=["part3"])
    assert "part0 (bias is 1, expected 2, 1 more of other shapes)" in str(error.value)
    assert ", and 3 more parts; " in str(error.value)
    assert "init_skip=[part3,part0,part1,part2,part4," in str(error.value)


def test_a_part_that_does_not_exist_is_refused():
    with pytest.raises(VSEError, match=r"init_skip=txt\.embed: no part .*did you mean text\.embed"):
        start_from(network(), network().state_dict(), source="a", left_out=["txt.embed"])
    with pytest.raises(VSEError, match=r"init_skip=embed: no part"):
        start_from(network(), network().state_dict(), source="a", left_out=["embed"])
    with pytest.raises(VSEError, match=r"init_skip=\[image,text,pooling\] leaves nothing of it"):
        start_from(network(), network().state_dict(), source="a", left_out=["image", "text", "pooling"])

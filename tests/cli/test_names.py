"""Names of settings: those that nothing reads, those that are still to be set, those that hide each other."""

import sys

import pytest

from vse_gpo.cli.names import (
    check_choices,
    check_settings,
    composed_names,
    names_to_set,
    unknown_names,
)
from vse_gpo.errors import VSEError

BASE = {
    "seed": 0,
    "optimizer": {"lr": 1e-3, "build": {"_target_": "torch.optim.AdamW", "fused": False}},
    "data": {"root": "${dataset.root}"},
    "callbacks": {"best": {"_target_": "x"}},
}


def test_a_name_that_the_base_does_not_have_is_unknown_unless_it_is_a_part():
    settings = {
        **BASE,
        "optimizer": {"lr": 1, "learning": 2, "build": {"_target_": "torch.optim.SGD", "momentum": 0.9}},
        "callbacks": {"best": {"_target_": "y", "new": 1}, "ours": {"_target_": "ours.Callback"}, "typo": {"a": 1}},
        "sed": 1,
    }
    assert list(unknown_names(settings, BASE)) == ["optimizer.learning", "callbacks.typo", "sed"]


def test_the_first_unknown_name_is_refused_with_one_that_was_meant():
    check_settings(BASE, BASE)
    with pytest.raises(VSEError, match=r"^optimizer\.lrr: no such setting \(did you mean optimizer\.lr\?\)$"):
        check_settings({**BASE, "optimizer": {"lrr": 1}}, BASE)


def test_all_that_is_still_to_be_set_is_told_at_once():
    settings = {**BASE, "seed": "???", "optimizer": {"lr": "???"}}
    with pytest.raises(VSEError, match=r"^seed, optimizer\.lr must be set; add seed=… optimizer\.lr=…$"):
        check_settings(settings, BASE)
    check_settings(settings, BASE, complete=False)


def test_what_follows_from_other_settings_is_not_suggested():
    assert "data.root" not in names_to_set(BASE)
    assert {"seed", "optimizer.lr", "optimizer.build.fused", "data"} <= set(names_to_set(BASE))


CHOICES = {"pooling": "max", "pooling@image_pooling": "mean", "pooling@text_pooling": "max", "loss": "triplet"}


def test_a_choice_for_both_that_an_experiment_hides_is_refused():
    line = "pooling=max does not reach pooling@image_pooling, which the experiment sets to mean; type pooling@image"
    with pytest.raises(VSEError, match=line):
        check_choices(CHOICES, ["pooling=max"])


@pytest.mark.parametrize("overrides", [[], ["loss=triplet"], ["pooling=max", "pooling@image_pooling=mean"]])
def test_a_choice_that_reaches_its_parts_is_not(overrides):
    check_choices(CHOICES, overrides)


def test_names_are_those_of_the_groups_that_were_chosen(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vse-train", "pooling=kmax", "wrong.name=1"])
    found = composed_names("train", "wrong.name")
    assert {"image_pooling.k", "text_pooling.k", "pooling", "pooling@image_pooling", "optimizer.lr"} <= set(found)
    monkeypatch.setattr(sys, "argv", ["vse-train", "pooling=nope", "wrong.name=1"])
    assert composed_names("train", "wrong.name") == []  # a second error tells nothing

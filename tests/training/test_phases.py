from dataclasses import replace

import pytest
import torch
from torch import nn

from vse_gpo.backbones.grid import Grid, PixelNormalization
from vse_gpo.errors import VSEError
from vse_gpo.training.phases import Phase, Phases, freeze

PUBLISHED = [
    {"from_epoch": 0, "trunk": "frozen", "negatives": "all"},
    {"from_epoch": 1, "trunk": "trainable", "negatives": "hardest", "ramp_loss": True},
    {"from_epoch": 2, "trunk": "trainable", "negatives": "hardest"},
]


def test_the_phase_follows_from_the_epoch_alone():
    story = Phases(PUBLISHED)
    found = [(story.at(epoch).trunk, story.at(epoch).negatives, story.at(epoch).ramp_loss) for epoch in (0, 1, 2, 24)]
    assert found == [
        ("frozen", "all", False),
        ("trainable", "hardest", True),
        ("trainable", "hardest", False),
        ("trainable", "hardest", False),
    ]


def test_the_storys_epochs_may_be_counted_in_steps():
    epochs, steps = Phases(PUBLISHED), Phases(PUBLISHED, epoch_steps=10)
    assert [epochs.epoch_of(3, 25), steps.epoch_of(0, 9), steps.epoch_of(0, 10), steps.epoch_of(0, 25)] == [3, 0, 1, 2]
    assert [epochs.ramp(0.25, 13), steps.ramp(0.25, 13)] == [0.25, 0.3]
    assert [epochs.end_of(4, 25), steps.end_of(4, 25), steps.end_of(4, -1)] == [4, 3, None]


@pytest.mark.parametrize("softened", [0, 1, 2, 3, 7])
def test_a_softened_epoch_counts_all_negatives_and_changes_no_other(softened):
    told, story = Phases(PUBLISHED), Phases(PUBLISHED)
    story.soften(softened)
    story.soften(softened)  # says nothing new
    for epoch in range(10):
        expected = replace(told.at(epoch), negatives="all") if epoch == softened else told.at(epoch)
        assert replace(story.at(epoch), from_epoch=expected.from_epoch) == expected


@pytest.mark.parametrize(
    ("trunks", "end", "expected"),
    [
        (["frozen", "trainable", "trainable"], 25, 2),
        (["frozen", "trainable", "trainable"], None, 2),
        (["frozen", "trainable", "trainable"], -1, 2),
        (["frozen", "trainable", "trainable"], 1, 0),  # the run ends before its trunk trains
        (["trainable", "frozen", 2], 25, 0),
        (["frozen", 3, 2, 0], 25, 1),
    ],
)
def test_the_most_trainable_phase_is_that_of_most_stages(trunks, end, expected):
    story = Phases([{"from_epoch": at, "negatives": "all", "trunk": trunk} for at, trunk in enumerate(trunks)])
    assert story.most_trainable(end) is story.story[expected]


def test_each_phase_may_last_so_many_epochs():
    story = Phases([{**phase, "from_epoch": 7 * phase["from_epoch"]} for phase in PUBLISHED], epochs_each=2)
    assert [story.at(epoch).ramp_loss for epoch in range(6)] == [False, False, True, True, False, False]
    assert [story.at(epoch).trunk for epoch in (1, 2)] == ["frozen", "trainable"]


@pytest.mark.parametrize(("trunk", "expected"), [("frozen", 0), (1, 1), (2, 2), (9, 3), ("trainable", 3)])
def test_stages_thaw_from_the_top(trunk, expected):
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1), nn.Identity())
    freeze(
        Grid(nn.Sequential(network, nn.Flatten()), PixelNormalization()),
        Phase(from_epoch=0, negatives="all", trunk=trunk),
    )
    trainable = [all(parameter.requires_grad for parameter in stage.parameters()) for stage in network[:3]]
    assert trainable == [False] * (3 - expected) + [True] * expected
    frozen = [not any(parameter.requires_grad for parameter in stage.parameters()) for stage in network[:3]]
    assert frozen == [not value for value in trainable]


@pytest.mark.parametrize(("trunk", "expected"), [("frozen", False), ("trainable", True), (1, False)])
def test_what_belongs_to_no_stage_trains_with_the_bottom_one(trunk, expected):
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    network.position = nn.Parameter(torch.zeros(3))
    freeze(Grid(network, PixelNormalization()), Phase(from_epoch=0, negatives="all", trunk=trunk))
    assert network.position.requires_grad is expected
    assert network[0].weight.requires_grad is expected


@pytest.mark.parametrize(
    ("story", "message"),
    [
        ([], "increasing epochs that start at 0"),
        ([{"from_epoch": 1, "negatives": "all"}], "increasing epochs that start at 0"),
        ([{"from_epoch": 0, "negatives": "all"}] * 2, "increasing epochs that start at 0"),
        ([{"from_epoch": 0, "negatives": "hard"}], "expected all or hardest"),
        ([{"from_epoch": 0, "negatives": "all", "trunk": "thawed"}], "expected frozen, trainable or a number"),
        ([{"from_epoch": 0, "negatives": "all", "ramp": True}], "unexpected keyword argument 'ramp'"),
    ],
)
def test_a_story_that_makes_no_sense_is_refused(story, message):
    with pytest.raises(VSEError, match=message):
        Phases(story)


@pytest.mark.parametrize("trunk", [True, -1, "melted"])
def test_a_trunk_is_frozen_trainable_or_a_number_of_stages(trunk):
    with pytest.raises(VSEError, match="expected frozen, trainable or a number of stages"):
        Phase(from_epoch=0, negatives="all", trunk=trunk)

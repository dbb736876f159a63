"""The synthetic check: what is to be imitated, and how well it was."""

import json
import sys

import pytest
import torch
from PIL import Image

from scripts.imitate_pooling import PATTERNS, PUBLISHED, RANGES, imitate, main, rmse, target
from vse_gpo.pooling import GPO

PLAIN = {
    "mean": lambda size: [1 / size] * size,
    "max": lambda size: [1.0] + [0.0] * (size - 1),
    "top 10": lambda size: [1 / min(size, 10) if rank < 10 else 0.0 for rank in range(size)],
    "top 50 %": lambda size: [1 / -(-size // 2) if rank < -(-size // 2) else 0.0 for rank in range(size)],
    "linear": lambda size: [(size - rank) / sum(range(1, size + 1)) for rank in range(size)],
}


@pytest.mark.parametrize("name", PATTERNS)
def test_targets_equal_plain_ones_and_end_at_the_size(name):
    sizes = [5, 1, 10, 11, 23, 2]
    for row, size in zip(target(PATTERNS[name], torch.tensor(sizes)).tolist(), sizes, strict=True):
        assert row == pytest.approx(PLAIN[name](size) + [0.0] * (23 - size))


def test_every_size_belongs_to_one_range_and_every_pattern_was_published():
    assert sorted(size for sizes in RANGES.values() for size in sizes) == list(range(10, 121))
    assert {name: [*row] for name, row in PUBLISHED.items()} == {name: [*RANGES] for name in PATTERNS}


def test_the_error_equals_a_plain_loop():
    torch.manual_seed(0)
    pooling, sizes = GPO(8, 4), range(3, 7)
    squares = []
    for size in sizes:
        coefficients = pooling.coefficients(torch.tensor([size]))[0].tolist()
        squares += [(ours - wanted) ** 2 for ours, wanted in zip(coefficients, PLAIN["linear"](size), strict=True)]
    assert rmse(pooling, PATTERNS["linear"], sizes) == pytest.approx((sum(squares) / len(squares)) ** 0.5)


def test_a_few_steps_come_nearer_and_repeat_exactly():
    pattern = PATTERNS["top 10"]
    before, after, again = (imitate(pattern, seed=3, steps=steps, lr=1e-2) for steps in (0, 8, 8))
    assert rmse(after, pattern, RANGES["seen"]) < rmse(before, pattern, RANGES["seen"])
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in after.state_dict().items())


def test_the_command_leaves_numbers_and_a_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["imitate_pooling.py", str(tmp_path), "--steps", "1"])
    main()
    results = json.loads((tmp_path / "imitation.json").read_text())
    assert results["settings"] == {"seed": 0, "steps": 1, "lr": 1e-3}
    assert results["published"] == PUBLISHED
    shown = capsys.readouterr().out
    for name, row in results["rmse"].items():
        for part, error in row.items():
            assert f"{error:.4f}" in shown
            assert f"{error - PUBLISHED[name][part]:+.4f}" in shown
    with Image.open(tmp_path / "imitation.png") as picture:
        assert picture.width == 1600


def test_a_folder_that_cannot_be_made_stops_it_before_any_training(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["imitate_pooling.py", str(tmp_path / "file" / "out")])
    with pytest.raises(SystemExit, match=r"cannot be written .*, expected a folder"):
        main()

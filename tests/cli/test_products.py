"""How a command computes float32 products: seen by the work that it starts."""

import sys

import pytest
import torch

from tests.helpers.commands import run_on_config
from vse_gpo.cli.products import product_settings
from vse_gpo.errors import VSEError


@pytest.mark.parametrize(
    ("config", "changes", "expected"),
    [
        ("train", [], ("high", True, True)),
        ("extract", ["dataset.root=x", "backbone.network.name=x", "out=x"], ("high", True, True)),
        ("evaluate", [], ("high", True, False)),
        ("evaluate", ["matmul_precision=highest", "cudnn_benchmark=true"], ("highest", False, True)),
        ("plot", ["run=x", "out=x"], ("highest", True, False)),  # torch's own
    ],
)
def test_the_work_runs_under_the_settings_and_they_end_with_it(config, changes, expected, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["command", *changes])
    seen = []

    def now() -> tuple[str, bool, bool]:
        cudnn = torch.backends.cudnn
        return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark

    before = now()
    run_on_config(lambda config: seen.append(now()), config)
    assert seen == [expected]
    assert now() == before


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("matmul_precision=tf32", "matmul_precision=tf32, expected one of highest, high, medium"),
        ("matmul_precision=null", "matmul_precision=None, expected one of highest, high, medium"),
        ("cudnn_benchmark=1", "cudnn_benchmark=1, expected true or false"),
    ],
)
@pytest.mark.parametrize("config", ["train", "evaluate"])
def test_another_value_is_refused_in_one_line_before_anything_is_read(error_of, config, argument, line):
    assert error_of(lambda: run_on_config(print, config), argument) == line


def test_a_command_without_the_settings_changes_nothing():
    with product_settings({"model": "x"})():
        assert torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(VSEError, match="expected one of"):
        product_settings({"matmul_precision": "HIGH", "cudnn_benchmark": True})

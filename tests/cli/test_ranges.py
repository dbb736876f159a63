"""Numbers that no run can use are refused before anything is read."""

import pytest

from tests.helpers.commands import run_on_config
from vse_gpo import train
from vse_gpo.cli.ranges import RANGES, check_numbers
from vse_gpo.errors import VSEError


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("batch_size=0", "batch_size=0, expected a whole number from 1 to 2147483647"),
        ("batch_size=1e2", "batch_size=100.0, expected a whole number from 1 to 2147483647"),
        ("workers=-1", "workers=-1, expected a whole number from 0 to 32767 or auto"),
        ("embedding_width=0", "embedding_width=0, expected a whole number from 1 to 2147483647"),
        ("micro_batch=0", "micro_batch=0, expected a whole number from 1 to 2147483647 or auto"),
        ("micro_batch=true", "micro_batch=True, expected a whole number from 1 to 2147483647 or auto"),
        ("trainer.max_epochs=1.5", "trainer.max_epochs=1.5, expected a whole number from -1 to 2147483647"),
        ("backbone.width=0", "backbone.width=0, expected a whole number from 1 to 2147483647"),
        ("seed=x", "seed=x, expected a whole number from 0 to 4294967295"),
        ("seed=-1", "seed=-1, expected a whole number from 0 to 4294967295"),
        ("data.batch_size=-2", "data.batch_size=-2, expected a whole number from 1 to 2147483647"),
        ("trainer.gradient_clip_val=nan", "trainer.gradient_clip_val=nan, expected a finite number"),
        ("optimizer.lr=inf", "optimizer.lr=inf, expected a finite number"),
    ],
)
def test_a_number_that_no_run_can_use_is_refused_before_data_are_read(error_of, argument, line):
    assert error_of(train.main, "experiment=f8k_region", "dataset.root=no/such", argument) == line


@pytest.mark.parametrize(
    ("config", "arguments"),
    [
        ("index", ["images=x", "out=x", "model=x", "batch_size=0"]),
        ("search", ["index=x", "top=0"]),
        ("app", ["index=x", "port=-1"]),
    ],
)
def test_other_commands_refuse_them_too(error_of, config, arguments):
    assert f"{arguments[-1]}, expected a whole number from" in error_of(
        lambda: run_on_config(print, config), *arguments
    )


def test_only_what_a_run_can_find_may_be_auto():
    check_numbers({"micro_batch": "auto"})
    with pytest.raises(VSEError, match="batch_size=auto, expected a whole number"):
        check_numbers({"batch_size": "auto"})


@pytest.mark.parametrize("name", RANGES)
def test_both_ends_of_a_range_and_null_are_taken(name):
    allowed = RANGES[name]
    for value in (allowed[0], allowed[-1], None, "${other}"):
        check_numbers({"part": {name: value}})
    for value in (allowed[0] - 1, allowed[-1] + 1, "3", 3.0, False):
        with pytest.raises(VSEError, match=f"part.{name}={value}, expected a whole number"):
            check_numbers({"part": {name: value}})


def test_only_what_can_be_found_may_be_auto():
    check_numbers({"workers": "auto"})
    with pytest.raises(VSEError, match="batch_size=auto, expected a whole number"):
        check_numbers({"batch_size": "auto"})

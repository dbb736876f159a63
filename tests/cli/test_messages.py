"""Errors as lines for the user, and remarks that no user needs."""

import tomllib
import warnings
from pathlib import Path

import pytest
from hydra.errors import InstantiationException, MissingConfigException
from omegaconf.errors import ConfigKeyError

from vse_gpo.cli.messages import (
    EXTRAS,
    REMARKS,
    ignore_remarks,
    no_such_option,
    one_line,
    several_values,
    unreadable,
    user_message,
)
from vse_gpo.errors import VSEError


def test_the_message_of_a_cause_and_of_a_loaders_process_is_found():
    error = RuntimeError("outer")
    error.__cause__ = VSEError(
        "Caught VSEError in DataLoader worker process 0.\n  …\nvse_gpo.errors.VSEError: bad row 3\n"
    )
    assert user_message(error, "train") == "bad row 3"
    assert user_message(RuntimeError("a bug"), "train") is None


def test_a_message_that_holds_a_line_break_is_told_whole():
    assert one_line(user_message(VSEError("a\nb: no such file"), "train")) == "a; b: no such file"
    assert one_line(user_message(VSEError("a\x1b[2J\u202e: no"), "train")) == "a\\x1b[2J\\u202e: no"


def test_a_package_of_an_extra_is_told_with_its_extra():
    wrapped = InstantiationException("Error locating target 'optuna.samplers.TPESampler'")
    wrapped.__cause__ = ModuleNotFoundError("No module named 'optuna'", name="optuna")
    line = "optuna is needed for this and not installed; pip install 'vse_gpo[sweep]'"
    assert user_message(wrapped, "train") == line
    assert "[sweep]" in user_message(ModuleNotFoundError(name="joblib.parallel"), "train")
    assert user_message(ModuleNotFoundError(name="my_own_part"), "train") is None
    own = VSEError("the search needs Lance")
    own.__cause__ = ModuleNotFoundError(name="lance")
    assert user_message(own, "index") == "the search needs Lance"
    for name in ("joblib", "submitit_slurm"):
        assert no_such_option(f"hydra/launcher/{name}", ["basic"]).endswith("pip install 'vse_gpo[sweep]'")


def test_every_extra_names_packages_that_it_installs():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for package, extra in EXTRAS.items():
        assert any(package.replace("_", "-") in needed.replace("_", "-") for needed in extras[extra])


def test_a_user_who_is_not_there_is_told():
    with pytest.raises(RuntimeError) as error:
        Path("~no-such-user/photos").expanduser()
    assert user_message(error.value, "index").startswith("a path begins with ~ and a name, but there is no such user")


def test_an_option_that_a_file_of_the_users_names_is_told_as_well(monkeypatch):
    monkeypatch.setattr("sys.argv", ["vse-train", "experiment=ours"])
    error = MissingConfigException("", missing_cfg_file="experiment/ours", options=["mine", "theirs"])
    assert user_message(error, "train") == "experiment=ours: no such option; there are mine, theirs"


def test_an_option_is_told_by_the_name_that_was_typed(monkeypatch):
    monkeypatch.setattr("sys.argv", ["vse-train", "pooling@image_pooling=meen", "pooling=max"])
    line = "pooling@image_pooling=meen: no such option (did you mean mean?); there are first, fspool, "
    assert no_such_option("pooling/meen", None).startswith(line)
    assert no_such_option("pooling/maxx", None).startswith("pooling=maxx: no such option (did you mean max?); ")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("out=a(b", "out=a(b: cannot be read as name=value; type \"out='a(b'\""),
        ("out=a=b", "out=a=b: cannot be read as name=value; type \"out='a=b'\""),
        ("+x=$(pwd)", "+x=$(pwd): cannot be read as name=value; type \"+x='\\$(pwd)'\""),
        ("a(b", "a(b: cannot be read as name=value; settings are name=value"),
    ],
)
def test_what_hydra_cannot_read_is_told_with_the_argument_to_type(override, line):
    assert unreadable(override) == line


def test_a_comma_may_mean_three_things():
    line = several_values("pooling=max,mean")
    assert line.startswith("pooling=max,mean: one value or several? Type \"pooling='max,mean'\" for one value")
    assert line.endswith("pooling=[max,mean] for a list, or -m for a run with each")


def test_the_lines_of_hydras_messages_are_joined():
    assert user_message(ConfigKeyError("Key 'x' is not in struct\n    full_key: x\n\n"), "train") == (
        "Key 'x' is not in struct; full_key: x"
    )


def test_remarks_are_kept_off_the_screen_and_other_warnings_are_not():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        ignore_remarks()
        warnings.warn("Checkpoint directory x exists and is not empty.", stacklevel=1)
        warnings.warn("the disk is nearly full", stacklevel=1)
        ignored = {pattern.pattern for action, pattern, *_ in warnings.filters if action == "ignore" and pattern}
    assert [str(one.message) for one in shown] == ["the disk is nearly full"]
    assert set(REMARKS) <= ignored

"""What was typed: overrides for Hydra, words as they are, and what to type instead of what cannot be read."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from vse_gpo.cli.arguments import PLAIN, expand_home, for_shell, quoted, read_arguments
from vse_gpo.cli.folders import config_folder
from vse_gpo.errors import VSEError

NASTY = "=(),~'\"\\ {}[]:$#%&!?*|;<>^`@+-./犬é\t\n\r0.5e_1a"
TYPED = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
TEXTS = st.text(alphabet=NASTY, max_size=10) | st.text(TYPED, max_size=10)


def train(*arguments: str) -> list[str]:
    read = read_arguments(arguments, config_name="train", bare="dataset.root")
    assert read.words == {}
    return read.overrides


def evaluate(*arguments: str) -> list[str]:
    return read_arguments(arguments, config_name="evaluate", bare="checkpoint").overrides


def search(*arguments: str) -> tuple[list[str], dict[str, str]]:
    return read_arguments(arguments, config_name="search", words=("query",), verbatim=("image",))


def report(*arguments: str) -> tuple[list[str], dict[str, list[str]]]:
    return read_arguments(arguments, config_name="report", words=("runs...",))


def convert(*arguments: str) -> tuple[list[str], dict[str, str]]:
    return read_arguments(arguments, config_name="convert", words=("model", "out"))


# what is left as it is


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["experiment=f8k_region", "dataset.root=/data", "optimizer.lr=1e-3"],
        ["callbacks=[default,ema]", "callbacks.extra={a: 1}", "+trainer.precision=16", "++seed=1"],
        ["~experiment", "~callbacks.examples", "~optimizer/build", "~callbacks.pruning.pruner", "~dataset=f8k"],
        ["-m", "seed=1,2", "optimizer.lr=choice(1,2)", "loss.margin=interval(0.1,0.3)", "pooling=glob(*)"],
        ["--multirun", "hydra/launcher=joblib", "hydra.sweep.dir=runs/${name}", "pooling@image_pooling=mean"],
        ["--help"],
        ["--cfg", "job", "--resolve"],
        ["--info=searchpath", "-cd", "mine", "--config-name", "other"],
        ["max_epochs=3", "xyzzy=1", "+new/group=1"],  # unknown, which the config tells
    ],
)
def test_what_hydra_reads_goes_there_untouched(arguments):
    assert train(*arguments) == arguments


# what is told with the argument to type


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["coco_wsl_grid"], "experiment=coco_wsl_grid"),
        (["seed=1", "shapes"], "experiment=shapes"),  # a data set as well
        (["wsl_grid"], "backbone=wsl_grid"),
        (["/data/f8k"], "dataset.root=/data/f8k"),
        (["~/f8k"], "dataset.root=~/f8k"),
        (["my data"], "\"dataset.root='my data'\""),
        (["runs/lr=1"], "\"dataset.root='runs/lr=1'\""),
        (["/runs/lr=1"], "\"dataset.root='/runs/lr=1'\""),
        (["--batch_size", "64"], "batch_size=64"),
        (["--batch_size=64"], "batch_size=64"),
        (["--batch-size", "64"], "batch_size=64"),
        (["--batch-size=64"], "batch_size=64"),
        (["--seed"], "seed=…"),
        (["--seed", "--test"], "seed=…"),
        (["--seed", "optimizer.lr=1"], "seed=…"),
        (["--dataset.root", "/a (b)"], "\"dataset.root='/a (b)'\""),
        (["--resume", "runs/lr=1/last.ckpt"], "\"resume='runs/lr=1/last.ckpt'\""),
        (["-b", "64"], "b=64"),
    ],
)
def test_a_word_or_a_flag_is_told_with_what_to_type(arguments, meant):
    with pytest.raises(VSEError) as error:
        train(*arguments)
    assert str(error.value).endswith(f"; type {meant}")
    assert "\n" not in str(error.value)
    if "…" not in meant:
        assert train(*shlex.split(meant)) == [expand_home(shlex.split(meant)[0])]  # now it is read


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("best.ckpt", "checkpoint=best.ckpt"),
        ("runs/coco/checkpoints/best.ckpt", "checkpoint=runs/coco/checkpoints/best.ckpt"),
        ("~/best.ckpt", "checkpoint=~/best.ckpt"),
        ("runs/lr=1,2/best.ckpt", "\"checkpoint='runs/lr=1,2/best.ckpt'\""),
        ("/犬/best(1).ckpt", "\"checkpoint='/犬/best(1).ckpt'\""),
        ("it's.ckpt", '"checkpoint=\\"it\'s.ckpt\\""'),
        ("coco", "dataset=coco"),
        ("coco_wsl_grid", "checkpoint=coco_wsl_grid"),  # evaluation has no experiments
    ],
)
def test_a_bare_path_is_told_with_its_setting(path, meant):
    with pytest.raises(VSEError, match="cannot be read as name=value; type ") as error:
        evaluate(path)
    assert str(error.value).endswith(f"; type {meant}")


def test_an_empty_argument_is_no_path():
    with pytest.raises(VSEError, match="an empty argument, expected name=value; is a variable of the shell not set"):
        train("seed=1", "")


# words


@pytest.mark.parametrize(
    "query",
    [
        "a dog",
        '"a dog", they said',
        "it's 5 o'clock: a dog, {brown}",
        "${seed} of ${oc.env:HOME}",
        "e=mc2",
        "x(1) ~ y",
        "~10 dogs",
        "~dogs",
        "-5 degrees",
        "- dogs",
        "犬",
        "\\",
        "a/b=c",
    ],
)
def test_a_query_is_taken_as_it_is(query):
    assert search(query, "index=x") == (["index=x"], {"query": query})
    assert search("index=x", "top=5", query) == (["index=x", "top=5"], {"query": query})
    assert search(f"query={query}") == ([], {"query": query})
    assert search("index=x", "--", query) == (["index=x"], {"query": query})
    assert search(f"image={query}") == ([], {"image": query})


@pytest.mark.parametrize("query", ["--top", "-m", "index=x", "top=5 reasons", "--"])
def test_after_two_dashes_anything_is_a_word(query):
    assert search("index=x", "--", query) == (["index=x"], {"query": query})


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["a dog", "a cat"], "'a cat': one word too many, expected query; quote a text of many words"),
        (["query=a dog", "a cat"], "'a cat': one word too many, expected query; quote a text of many words"),
        (["query=a dog", "query=a cat"], "query is set twice, to 'a dog' and 'a cat', expected one"),
        (["--top", "5", "a dog"], "--top: no such flag, settings are name=value; type top=5"),
        (["--top=5", "a dog"], "--top=5: no such flag, settings are name=value; type top=5"),
    ],
)
def test_what_is_too_much_is_refused(arguments, line):
    with pytest.raises(VSEError) as error:
        search(*arguments)
    assert str(error.value) == line


def test_words_go_to_their_settings_in_order():
    assert convert("best.ckpt", "out") == ([], {"model": "best.ckpt", "out": "out"})
    assert convert("out=a,b", "best(1).ckpt") == ([], {"model": "best(1).ckpt", "out": "a,b"})
    assert convert("~/a=b.ckpt", "vocabulary=v.json") == (["vocabulary=v.json"], {"model": "~/a=b.ckpt"})
    with pytest.raises(VSEError, match="'c': one word too many, expected model and out"):
        convert("a", "b", "c")


def test_a_setting_may_take_all_words():
    assert report("a", "out=x.html", "b,c") == (["out=x.html"], {"runs": ["a", "b,c"]})
    assert report("runs=[a,~/b]") == ([f"runs=[a,{Path.home()}/b]"], {})
    with pytest.raises(VSEError, match="runs is set twice, by runs= and by 'b', expected one"):
        report("runs=[a]", "b")


def test_a_misspelt_setting_is_no_word():
    assert search("indx=x", "a dog") == (["indx=x"], {"query": "a dog"})


# quoting


@pytest.mark.parametrize(
    ("value", "expanded"),
    [
        ("~/data", "HOME/data"),
        ("~", "HOME"),
        ("[~/a,~/b, ~/c]", "[HOME/a,HOME/b, HOME/c]"),
        ("['~/a b',\"~/c\"]", "['HOME/a b',\"HOME/c\"]"),
        ("'~/a(b)'", "'HOME/a(b)'"),
        ("'a,~/b'", "'a,~/b'"),
        ("'~/a,~/b'", "'HOME/a,~/b'"),
        ("a~/b", "a~/b"),
        ("~user/b", "~user/b"),
        ("/a/~/b", "/a/~/b"),
    ],
)
def test_the_home_folder_is_known_where_a_path_begins(value, expanded):
    assert expand_home(f"name={value}") == f"name={expanded.replace('HOME', str(Path.home()))}"
    assert train(f"dataset.root={value}") == [f"dataset.root={expanded.replace('HOME', str(Path.home()))}"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("t-{000..099}.tar", "'t-{000..099}.tar'"),
        ("~/t-{0..9}.tar", f"'{Path.home()}/t-{{0..9}}.tar'"),
        ("'t-{0..9}.tar'", "'t-{0..9}.tar'"),
        ("['t-{0..9}.tar']", "['t-{0..9}.tar']"),
        ("{a:1}", "{a:1}"),
    ],
)
def test_numbers_in_braces_stand_for_many_names(value, expected):
    assert train(f"dataset.train_shards={value}") == [f"dataset.train_shards={expected}"]


@settings(max_examples=60)
@given(st.lists(TEXTS.filter(lambda text: "${" not in text and text != "???"), min_size=4, max_size=4))
def test_a_quoted_value_composes_to_exactly_itself(values):
    """But for ``${}``, which refers to another setting, and ``???``, which is still to be set."""
    settings = dict(zip(("images", "out", "tokenizer", "vocabulary"), values, strict=True))
    typed = [f"{name}={quoted(value)}" for name, value in settings.items()]
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose("index", read_arguments(typed, config_name="index").overrides)
    for name, value in settings.items():
        expected = re.sub(r"^~(?=/|\Z)", str(Path.home()), value)
        assert config[name] == expected or (PLAIN.fullmatch(value) and not isinstance(config[name], str))  # 64, null


@settings(max_examples=50)
@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_an_argument_for_the_shell_is_one_argument(values):
    arguments = [f"name={quoted(value)}" for value in values]
    line = " ".join(["printf '%s\\0'", *map(for_shell, arguments)])
    found = subprocess.run(["bash", "-c", line], capture_output=True, check=True, cwd="/").stdout
    assert found.decode().split("\0")[:-1] == arguments
    assert not any("!" in quoting for quoting in map(for_shell, arguments) if quoting.startswith('"'))

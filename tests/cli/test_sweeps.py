"""A sweep's folders and its ranking: names that need no quotes, and the best run first."""

import json
import re
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from vse_gpo.cli.sweeps import LONGEST, Job, job_name, print_end, short_names

ANY = st.dictionaries(st.from_regex(r"[a-z]+([.@/][a-z]+){0,2}", fullmatch=True), st.text(max_size=60), min_size=1)


def test_a_name_says_the_values():
    values = {"optimizer.lr": "0.001", "pooling@image_pooling": "max", "seed": "0"}
    assert job_name(values) == "lr-0.001_image_pooling-max_seed-0"
    assert short_names({"image_pooling.k": "1", "text_pooling.k": "2"}) == {
        "image_pooling.k": "1",
        "text_pooling.k": "2",
    }


def test_names_that_lose_a_sign_differ_all_the_same():
    names = [job_name({"callbacks": value}) for value in ("[default,ema]", "[default;ema]")]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"callbacks-default-ema-[0-9a-f]{8}", name) for name in names)


@given(ANY)
def test_any_name_is_a_short_path_that_hydra_takes_as_it_is(values):
    name = job_name(values)
    assert len(name) <= LONGEST
    assert Path(name).name == name
    assert name == name.strip()
    override = OverridesParser.create().parse_override(f"checkpoint=runs/{name}/best.ckpt")
    assert override.value() == f"runs/{name}/best.ckpt"


def write(folder: Path, results: dict[str, float] | str) -> Path:
    folder.mkdir()
    (folder / "metrics.json").write_text(results if isinstance(results, str) else json.dumps(results), encoding="utf-8")
    return folder


def test_the_best_run_comes_first_and_one_that_failed_is_counted(tmp_path, capsys):
    gpo = {"val/best_rsum": 410.04, "test/ema/all/rsum": 1.0, "test/all/rsum": 400.0}
    jobs = [
        Job({"pooling": "max", "loss.margin": "0.2"}, write(tmp_path / "a", {"val/best_rsum": 99.5})),
        Job({"pooling": "gpo", "loss.margin": "0.2"}, write(tmp_path / "b", gpo)),
        Job({"pooling": "mean", "loss.margin": "0.2"}, tmp_path / "c"),
        Job({"pooling": "gem", "loss.margin": "0.2"}, write(tmp_path / "d", "[cut")),
    ]
    print_end(tmp_path, jobs)
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}: rSum of 2 of 4 runs, the best on dev first",
        "  dev   test  run                     folder",
        "410.0  400.0  pooling=gpo margin=0.2  b",
        " 99.5      –  pooling=max margin=0.2  a",
    ]


def test_jobs_that_are_no_trainings_are_not_ranked(tmp_path, capsys):
    print_end(tmp_path, [Job({"split": "dev"}, write(tmp_path / "a", {"model": 1.0})), Job({}, tmp_path)])
    assert capsys.readouterr().out == ""

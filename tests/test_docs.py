"""The commands and the Python of the README and of the pages under docs run, on small data.

Blocks of ``sh`` and ``python`` are run. Blocks of ``bash`` need real data, a GPU or another machine: their commands are
composed and checked as they would be before the work begins.
"""

import csv
import importlib.util
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib import import_module
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from PIL import Image

from tests.golden import FOLDER
from tests.helpers.tiny_duals import dual_folder
from tests.helpers.tiny_encoders import roberta_folder
from tests.helpers.tiny_root import tiny_root
from vse_gpo import VSE
from vse_gpo.cli.arguments import read_arguments
from vse_gpo.cli.folders import config_folder
from vse_gpo.cli.names import check_settings, plain, without_experiment

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
GUIDES = DOCS / "pages" / "guides"
PAGES = [REPOSITORY / "README.md", *sorted((DOCS / "pages").rglob("*.md"))]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SHORT = (
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.limit_train_batches=2",
    "trainer.log_every_n_steps=1",
    "workers=0",
)
FEW = ("dataset.source.train=30", "dataset.source.dev=10", "dataset.source.test=10", "batch_size=8")
EXPERIMENT = ["experiment=f8k_region", "dataset.root=DIR"]
ANY = {"…": EXPERIMENT, "experiment=…": EXPERIMENT}  # what stands for any experiment on the pages


def load_generator() -> ModuleType:
    """docs/generate.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generator()
GENERATED = generate.pages()


def blocks(text: str, *languages: str) -> list[str]:
    return re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str, language: str) -> list[list[str]]:
    lines = "".join(blocks(text, language)).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def commands_of(*guides: str) -> list[list[str]]:
    return [command for guide in guides for command in commands((GUIDES / guide).read_text(encoding="utf-8"), "sh")]


def run_python(text: str) -> dict[str, Any]:
    """Run all Python of a page, one block after the other; what it defined."""
    found: dict[str, Any] = {}
    for block in blocks(text, "python"):
        exec(block, found)  # noqa: S102
    return found


def module_of(command: list[str]) -> tuple[str, list[str]]:
    """The module that a command starts, and its arguments."""
    if command[0] in PROJECT["scripts"]:
        return PROJECT["scripts"][command[0]].partition(":")[0], command[1:]
    place = command.index("-m")
    module = command[place + 1]
    package = importlib.util.find_spec(module).submodule_search_locations is not None
    return module + ".__main__" * package, command[place + 2 :]


def start(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As the shell would, in this process."""
    if command[0] == "ln":
        Path(command[3]).symlink_to(command[2])
    elif command[1].startswith("scripts/"):
        monkeypatch.setattr(sys, "argv", command[1:])
        runpy.run_path(str(REPOSITORY / command[1]), run_name="__main__")
    else:
        module, arguments = module_of(command)
        monkeypatch.setattr(sys, "argv", [command[0], *arguments])
        import_module(module).main()


def draw_images(folder: Path) -> list[str]:
    """Write thirty small images; their names."""
    draws = np.random.default_rng(0)
    folder.mkdir()
    names = [f"{number}.jpg" for number in range(30)]
    for name in names:
        Image.fromarray(draws.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / name)
    return names


# what is run


def test_getting_started(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = {
        "vse-train": [*SHORT, *FEW],
        "vse-evaluate": ["dataset.source.test=10", "workers=0", "accelerator=cpu"],
        "vse-report": ["accelerator=cpu"],
        "vse-index": ["workers=0"],
    }
    for command in commands((DOCS / "pages" / "getting_started.md").read_text(encoding="utf-8"), "sh"):
        start([*command, *small.get(command[0], [])], monkeypatch)
    assert "rsum" in capsys.readouterr().out
    assert Path("examples.png").is_file()
    assert Path("report.html").is_file()


def write_captions() -> None:
    """The images and the table of captions that pages call my_images and my_captions.csv."""
    with Path("my_captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for name in draw_images(Path("my_images")):
            table.writerows([[name, f"an image called {name}"], [name, "one of many"]])


def test_training_on_own_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_captions()
    model = ["text.width=8", "embedding_width=16", "batch_size=8"]
    train = [*SHORT, *model, f"text.pretrained={roberta_folder(tmp_path / 'text')}"]
    small = {
        "vse-extract": ["backbone.network.pretrained=false", "workers=0"],
        "experiment=f8k_grid": [*train, "backbone.network.pretrained=false", "backbone.prepare.size=64"],
        "experiment=f8k_region": train,
    }
    for command in commands_of("train_on_your_data.md"):
        start([*command, *chain(*(overrides for name, overrides in small.items() if name in command))], monkeypatch)
    for run in ("mine", "on_features"):
        assert "test/all/rsum" in json.loads((tmp_path / "runs" / run / "metrics.json").read_text())
    assert len(VSE.from_pretrained("my_model").encode_images(["my_images/0.jpg"])) == 1


def test_evaluating_comparing_and_reporting(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    overrides = tiny_root(Path("my_f30k"))
    for seed, name in enumerate("ab"):
        start(["vse-train", *overrides, *SHORT, f"seed={seed}", f"hydra.run.dir=runs/{name}"], monkeypatch)
    vectors = np.eye(4, dtype=np.float32)
    np.savez("clip.npz", image_embeddings=vectors, caption_embeddings=vectors, caption_to_image=np.arange(4))
    small = {"vse-evaluate": ["workers=0", "accelerator=cpu"], "vse-report": ["accelerator=cpu"]}
    for command in commands_of("evaluate_a_checkpoint.md", "compare_and_report.md"):
        start([*command, *small.get(command[0], [])], monkeypatch)
    assert "change" in capsys.readouterr().out
    assert json.loads(Path("evaluations/clip/metrics.json").read_text())
    assert Path("my_model/model.safetensors").is_file()
    assert Path("report.html").is_file()
    assert Path("pooling.png").is_file()


def test_using_a_model_to_search_to_export_and_as_a_library(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw_images(Path("my_images"))
    start(["vse-train", *SHORT, *FEW, "hydra.run.dir=runs/mine"], monkeypatch)
    start(["vse-train", *SHORT, *FEW, "interaction=maxsim", "loss=joint", "hydra.run.dir=runs/joint"], monkeypatch)
    for command in commands_of("search_your_images.md", "library.md"):
        start([*command, *(["workers=0"] if command[0] == "vse-index" else [])], monkeypatch)
    assert "my_images" not in capsys.readouterr().err
    found = run_python((GUIDES / "search_your_images.md").read_text(encoding="utf-8"))
    assert len(set(found["files"][0])) == 10
    assert len({hit.file for hit in found["hits"]}) == 5
    found = run_python((GUIDES / "library.md").read_text(encoding="utf-8"))
    assert found["similarity"].shape == (2, 3)
    assert 0 < found["metrics"]["all"]["rsum"] <= 600
    found = run_python((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    assert found["similarity"].shape == (2, 1)


def test_using_a_pretrained_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw_images(Path("my_images"))
    dual_folder("clip", Path("my_clip"))
    for command in commands_of("use_a_pretrained_model.md"):
        start([*command, *(["workers=0"] if command[0] == "vse-index" else [])], monkeypatch)
    assert "my_images" not in capsys.readouterr().err
    found = run_python((GUIDES / "use_a_pretrained_model.md").read_text(encoding="utf-8"))
    assert found["probabilities"].sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert VSE.from_pretrained("my_copy").fingerprint() == found["model"].fingerprint()


@pytest.mark.filterwarnings("ignore:captions are cut")  # the tiny CLIP reads 16 tokens
def test_fine_tuning_a_pretrained_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_captions()
    dual_folder("clip", Path("my_clip"))
    small = {
        "vse-train": [*SHORT, "batch_size=8"],
        "vse-index": ["workers=0"],
        "vse-evaluate": ["workers=0", "accelerator=cpu"],
    }
    for command in commands_of("fine_tune_clip.md"):
        start([*command, *small.get(command[0], [])], monkeypatch)
    metrics = json.loads(Path("runs/lora/metrics.json").read_text())
    assert {"test/all/rsum", "test/ema/all/rsum", "test/wise_0.5/all/rsum"} <= metrics.keys()
    found = run_python((GUIDES / "fine_tune_clip.md").read_text(encoding="utf-8"))
    assert VSE.from_pretrained("my_wise_model").fingerprint() == found["model"].fingerprint()
    tuned, zero_shot = VSE.from_pretrained("runs/tuned"), VSE.from_pretrained("my_clip")
    assert tuned.logits.log_scale != zero_shot.logits.log_scale
    assert tuned.image_encoder.pooling.gate != 0


def test_other_benchmarks(tmp_path, monkeypatch):
    pytest.importorskip("mteb")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FOLDER / "saved" / "model", "my_model")
    found = run_python((GUIDES / "other_benchmarks.md").read_text(encoding="utf-8"))
    assert len(found["tasks"]) == 4
    assert found["similarity"].shape == (2, 1)


def test_exporting(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    start(["vse-train", *SHORT, *FEW, "hydra.run.dir=runs/mine"], monkeypatch)
    for command in commands_of(
        "export.md"
    ):  # in a process that checks no shapes: while a graph is traced, sizes are symbols
        module, arguments = module_of(command)
        subprocess.run([sys.executable, "-m", module, *arguments], check=True)
    assert {"image.onnx", "text.onnx", "towers.json"} <= {path.name for path in Path("exported").iterdir()}


def test_adding_a_pooling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    page = (GUIDES / "add_a_pooling.md").read_text(encoding="utf-8")
    Path("my_poolings.py").write_text(blocks(page, "python")[0])
    group = Path("my_configs/pooling")
    group.mkdir(parents=True)
    (group / "log_sum_exp.yaml").write_text(blocks(page, "yaml")[0])
    for command in commands_of("add_a_pooling.md"):
        start([*command, *SHORT, *FEW], monkeypatch)
    assert len(list(Path("runs").glob("*/metrics.json"))) == 2


def test_every_block_that_is_to_be_run_is_run_by_a_test():
    run = {"getting_started.md", "train_on_your_data.md", "evaluate_a_checkpoint.md", "compare_and_report.md"}
    run |= {
        "use_a_pretrained_model.md",
        "fine_tune_clip.md",
        "search_your_images.md",
        "library.md",
        "other_benchmarks.md",
        "export.md",
        "add_a_pooling.md",
        "README.md",
    }
    assert {page.name for page in PAGES if blocks(page.read_text(encoding="utf-8"), "sh", "python")} == run


# what is checked


def door_words(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What a door tells the command line of its words, its config's name, and the arguments that it leaves to it."""
    found: dict[str, Any] = {}
    door = import_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door, "run_command", lambda _work, config_name, **rest: found.update(rest, name=config_name))
        patch.setattr(sys, "argv", [module, *arguments])
        door.main()
        return found | {"arguments": sys.argv[1:]}


def compose_command(module: str, arguments: Sequence[str]) -> None:
    """Read, compose and check a command as its door does, without the work; of a sweep the first run."""
    door = door_words(module, arguments)
    known = {key: door[key] for key in ("words", "verbatim", "bare") if key in door}
    typed = read_arguments(door["arguments"], config_name=door["name"], **known)
    overrides = OverridesParser.create().parse_overrides([one for one in typed.overrides if not one.startswith("-")])
    first = [next(one.sweep_string_iterator()) if one.is_sweep_override() else None for one in overrides]
    pairs = zip(overrides, first, strict=True)
    single = [one.input_line if value is None else f"{one.get_key_element()}={value}" for one, value in pairs]
    with initialize_config_dir(config_folder(), version_base="1.3"):
        config = compose(door["name"], single, return_hydra_config=True)
        base = plain(without_experiment(door["name"], config.hydra.runtime.choices))
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    check_settings({**plain(config), **typed.words}, base)


def check_command(words: list[str]) -> None:
    """A command names what exists: a command with its settings, a script, a target, a tool or an extra."""
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif words[0] == "pip":
        for extra in re.findall(r"\[(\w+)\]", words[2]):
            assert extra in PROJECT["optional-dependencies"]
    elif words[0].startswith(".venv/bin/"):
        tools = {Path(word).name for word in words if word.startswith(".venv/bin/")}
        assert tools - {"python"} <= {re.split("[<>=]", tool)[0] for tool in PROJECT["optional-dependencies"]["dev"]}
    elif words[0] == "curl":
        assert "127.0.0.1:7860/api/" in words[-1]  # tests/search/test_api.py asks for it
    elif words[0] == "wandb":
        assert words[1] == "agent" or (REPOSITORY / words[2]).is_file()
    elif len(words) > 1 and words[1].startswith("scripts/"):
        assert (REPOSITORY / words[1]).is_file()
    else:
        module, arguments = module_of([word for word in words if word not in ("--cfg", "job", "--help")])
        compose_command(module, list(chain(*(ANY.get(word, [word.replace("…", "X")]) for word in arguments))))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_for_real_data_compose(page):
    for words in commands(page.read_text(encoding="utf-8"), "bash"):
        check_command(words)


@pytest.mark.parametrize("path", [path for path, page in GENERATED.items() if blocks(page.text, "bash")])
def test_commands_on_generated_pages_compose(path):
    """Of those that differ only in their experiment, one: tests/test_experiments.py composes each."""
    typed = commands(GENERATED[path].text, "bash")
    for words in {tuple(re.sub(r"^experiment=\w+", "", word) for word in words): words for words in typed}.values():
        check_command(words)


# what is generated


def test_there_is_a_page_for_every_command_and_every_option():
    for command in PROJECT["scripts"]:
        assert f"# {command}\n" in GENERATED[f"commands/{command}.md"].text
        assert f"({command}.md)" in GENERATED["commands/index.md"].text
    for path in Path(config_folder()).rglob("*.yaml"):
        group = path.parent.relative_to(config_folder()).as_posix()
        if group != "." and not group.startswith("hydra"):
            assert f"\n## {group}={path.stem}\n" in GENERATED[f"configuration/{group.replace('/', '_')}.md"].text
    for path in (REPOSITORY / "src" / "vse_gpo").rglob("[a-z]*.py"):
        parts = path.relative_to(REPOSITORY / "src").with_suffix("").parts
        if len(parts) > 2:
            assert f"::: {'.'.join(parts)}\n" in GENERATED[f"modules/{parts[1]}.md"].text


def test_generated_pages_are_the_same_each_time():
    assert generate.pages() == GENERATED


def test_settings_with_folded_comments_are_the_same():
    for path in Path(config_folder()).rglob("*.yaml"):
        body = generate.read_option(path.read_text(encoding="utf-8")).body
        assert yaml.safe_load(generate.folded(body)) == yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("Off: ~callbacks.examples", "Off: `~callbacks.examples`"),
        ("set backbone.size_augmentation=null, which", "set `backbone.size_augmentation=null`, which"),
        ("callbacks=[default,ema]: a", "`callbacks=[default,ema]`: a"),
        ("with <mask>.", "with `<mask>`."),
        ("the file config.yaml. Then", "the file `config.yaml`. Then"),
        ("values at image_pooling.*.", "values at `image_pooling.*`."),
        ("rSum 300.6 of 3.0 [a]", r"rSum 300.6 of 3.0 \[a\]"),
    ],
)
def test_names_in_a_comment_become_code(text, markdown):
    assert generate.prose(text) == markdown


def test_a_header_becomes_paragraphs_commands_settings_and_tables():
    option = generate.read_option(
        "# @package _global_\n# Two sweeps.\n# Of K.\n# vse-train a=1 \\\n#     b=2\n"
        "# Published, table 1\n#   K | region\n#   1 | 70.0\n# hydra/launcher=joblib    four at a time\nseed: 0\n"
    )
    assert option.body == "seed: 0\n"
    assert generate.about(option).split("\n\n") == [
        "Two sweeps. Of K.",
        "```bash\nvse-train a=1 \\\n    b=2\n```",
        "Published, table 1",
        "| K | region |\n|---|---|\n| 1 | 70.0 |",
        "- `hydra/launcher=joblib`: four at a time",
    ]


def test_published_tables_stand_where_pages_ask_for_them():
    page = (DOCS / "pages" / "results" / "published.md").read_text(encoding="utf-8")
    text = generate.with_tables(page)
    assert "<!-- table" not in text
    assert "| 545.4 |" in text
    assert generate.ablations_section() in text


def test_links_of_the_readme_lead_somewhere():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)", readme)
    assert len(links) > 20
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 130

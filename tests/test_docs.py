"""Every command of the pages under docs and every line of Python there runs, on small data and with small models."""

import csv
import json
import re
import runpy
import shlex
import sys
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.tiny_encoders import roberta_folder
from tests.helpers.tiny_root import tiny_root
from vse_gpo import VSE

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
SHORT = (
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.limit_train_batches=2",
    "trainer.log_every_n_steps=1",
    "workers=0",
)

FEW = ("dataset.source.train=30", "dataset.source.dev=10", "dataset.source.test=10", "batch_size=8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def commands(page: str) -> list[list[str]]:
    lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def start(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As the shell would, in this process."""
    program, *arguments = command
    if program == "ln":
        Path(arguments[2]).symlink_to(arguments[1])
    elif arguments[0] == "-m":
        monkeypatch.setattr(sys, "argv", arguments[1:])
        is_package = find_spec(arguments[1]).submodule_search_locations is not None
        import_module(arguments[1] + ".__main__" * is_package).main()
    else:
        monkeypatch.setattr(sys, "argv", arguments)
        runpy.run_path(str(REPOSITORY / arguments[0]), run_name="__main__")


def draw_pictures(folder: Path) -> list[str]:
    """Write thirty small pictures; their names."""
    draws = np.random.default_rng(0)
    folder.mkdir()
    names = [f"{number}.jpg" for number in range(30)]
    for name in names:
        Image.fromarray(draws.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / name)
    return names


def test_training_on_own_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Path("my_captions.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "caption"])
        for name in draw_pictures(Path("my_pictures")):
            table.writerows([[name, f"a picture called {name}"], [name, "one of many"]])
    model = ["text.width=8", "embedding_width=16", "batch_size=8"]
    train = [*SHORT, *model, f"text.pretrained={roberta_folder(tmp_path / 'text')}"]
    small = {
        "vse_gpo.extract": ["backbone.network.pretrained=false", "workers=0"],
        "experiment=f8k_grid": [*train, "backbone.network.pretrained=false", "backbone.prepare.size=64"],
        "experiment=f8k_region": train,
    }
    for command in commands("train_on_your_data.md"):
        start([*command, *chain(*(overrides for name, overrides in small.items() if name in command))], monkeypatch)
    for run in ("mine", "on_features"):
        assert "test/all/rsum" in json.loads((tmp_path / "runs" / run / "metrics.json").read_text())
    assert len(VSE.from_pretrained("my_model").encode_images(["my_pictures/0.jpg"])) == 1


def test_evaluating_a_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    overrides = tiny_root(Path("my_f30k"))
    for seed, name in enumerate("ab"):
        run = ["python", "-m", "vse_gpo.train", *overrides, *SHORT, "test=false"]
        start([*run, f"seed={seed}", f"hydra.run.dir=runs/{name}"], monkeypatch)
    vectors = np.eye(4, dtype=np.float32)
    np.savez("clip.npz", image_embeddings=vectors, caption_embeddings=vectors, caption_to_image=np.arange(4))
    for command in commands("evaluate_a_checkpoint.md"):
        small = ["workers=0", "accelerator=cpu"] if "vse_gpo.evaluate" in command else []
        start([*command, *small], monkeypatch)
    assert "difference" in capsys.readouterr().out
    assert json.loads(Path("evaluations/clip/metrics.json").read_text())
    assert (Path("my_model") / "model.safetensors").is_file()


def test_searching_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw_pictures(Path("my_pictures"))
    start(["python", "-m", "vse_gpo.train", *SHORT, *FEW, "hydra.run.dir=runs/mine"], monkeypatch)
    for command in commands("search_your_pictures.md"):
        start([*command, *(["workers=0"] if "vse_gpo.index" in command else [])], monkeypatch)
    assert "my_pictures" not in capsys.readouterr().err
    found: dict[str, list[list[str]]] = {}
    exec(blocks("search_your_pictures.md", "python")[0], found)  # noqa: S102
    assert len(set(found["files"][0])) == 10


def test_adding_a_pooling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("my_poolings.py").write_text(blocks("add_a_pooling.md", "python")[0])
    kind = Path("my_configs/pooling/kind")
    kind.mkdir(parents=True)
    (kind / "log_sum_exp.yaml").write_text(blocks("add_a_pooling.md", "yaml")[0])
    for command in commands("add_a_pooling.md"):
        start([*command, *SHORT, *FEW], monkeypatch)
    assert len(list(Path("runs").glob("*/metrics.json"))) == 2

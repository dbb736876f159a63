"""That benchmarks compare what they say, in sizes that take no time; their figures are no test's business."""

import json
import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

from vse_gpo.pooling import GPO

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def benchmarks(monkeypatch):
    """Gives a module of the benchmarks by its name, as the script itself finds it."""
    monkeypatch.syspath_prepend(SCRIPTS)

    def of(name: str) -> ModuleType:
        return import_module(f"benchmarks.{name}")

    return of


def test_the_released_pooling_of_the_benchmark_is_ours(benchmarks):
    torch.manual_seed(0)
    gpo, features, lengths = GPO(), torch.randn(5, 7, 3), torch.tensor([7, 1, 3, 3, 6])
    torch.testing.assert_close(benchmarks("pooling").plain_gpo(gpo, features, lengths), gpo(features, lengths))


def test_pooling_writes_what_it_shows(benchmarks, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmarks("pooling"), "SHAPES", ((3, 5, 4),))
    monkeypatch.setattr(
        sys, "argv", ["benchmark.py", "--json", str(tmp_path / "out.json"), "pooling", "--device", "cpu"]
    )
    import_module("scripts.benchmark").main()
    (table,) = json.loads((tmp_path / "out.json").read_text())["results"]
    names, milliseconds, ratios = zip(*table["rows"], strict=True)
    assert "pooling 3 × 5 × 4" in capsys.readouterr().out
    assert names[:2] == ("mean of each set", "GPO")
    assert [of_ours * milliseconds[1] for of_ours in ratios] == pytest.approx(milliseconds)


def test_a_training_step_is_compared_with_mean_pooling(benchmarks, monkeypatch):
    module = benchmarks("train_step")
    for name, value in {"PAIRS": 4, "REGIONS": 3, "WIDTH": 8, "EMBEDDING": 6, "LAYERS": 1}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "turn_by_turn", lambda works, repeats: [work() or 1.0 for work in works])
    (table,) = module.train_step("cpu", "32-true")
    assert [row[0] for row in table.rows[:3]] == ["mean pooling", "GPO", "GPO as released"]
    assert table.rows[0][2] == 1.0


def test_memory_on_gpus_is_counted_on_the_meta_device(benchmarks):
    """The figures of the page On GPUs; MACs of timm at 224×224 are its published 16.48 G."""
    module = benchmarks("gpu_memory")
    make, _ = module.TRUNKS["wsl_grid"]
    half, full = module.count(make, half=True), module.count(make, half=False)
    again = module.count(make, half=True, checkpointing=True)
    assert [round(counted.kept / 2**20) for counted in (half, full, again)] == [618, 1229, 116]
    assert half.gflop == pytest.approx(2 * 16.48 * (512 / 224) ** 2, rel=0.01)
    text = module.Counted(parameters=110_000_000, gflop=0.0, kept=40e6)
    assert [module.largest_micro_batch(card, half, text) for card in module.CARDS] == [16, 32, 64, 128]
    assert module.largest_micro_batch("RTX 3090, 24 GB", module.Counted(10**10, 0.0, 1.0), text) is None


def test_the_readmes_first_command_for_a_gpu_fits_on_the_card_that_it_names(benchmarks):
    readme = (SCRIPTS.parent / "README.md").read_text(encoding="utf-8")
    overrides, card = re.search(
        r"vse-train experiment=coco_wsl_grid dataset.root=DIR (.+?) +# .* (\d+ GB)", readme
    ).groups()
    assert overrides.split() == ["trainer.precision=bf16-mixed", "micro_batch=16"]
    module = benchmarks("gpu_memory")
    [name] = [name for name in module.CARDS if name.endswith(card)]
    image, text = module.count(module.TRUNKS["wsl_grid"][0], half=True), module.count_text(half=True)
    assert module.largest_micro_batch(name, image, text) >= 16


def test_a_trunk_is_timed_with_its_memory_kept_and_given_back(benchmarks, monkeypatch):
    module = benchmarks("trunk")
    kept = []
    for name, value in {"NAME": "test_resnet", "SIZE": 32, "BATCHES": (2,)}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "alone", lambda work, *arguments: work(*arguments))
    monkeypatch.setattr(module, "keep_freed_memory", lambda: kept.append(True))
    (table,) = module.trunk()
    assert [row[0] for row in table.rows] == [
        f"{work}: {m}" for work in ("features", "training") for m in ("given back", "kept")
    ]
    assert kept == [True, True]
    assert all(row[1] > 0 for row in table.rows)


def test_large_features_open_and_made_pictures_are_pictures(benchmarks, monkeypatch, tmp_path):
    module = benchmarks("loader")
    monkeypatch.setattr(module, "PICTURES", 1)
    monkeypatch.setattr(module, "COCO", (200, 36, 2048))
    monkeypatch.setattr(module, "alone", lambda work, *arguments: work(*arguments))
    (row,) = module._features().rows
    assert row[1] > 0
    (file,) = module.jpegs(tmp_path, *module.DETAIL[0])
    assert module.read_image(file).shape == (3, 480, 640)


def test_shards_are_compared_with_a_folder(benchmarks, monkeypatch):
    module = benchmarks("shards")
    for name, value in {"SHARDS": 2, "READS": 9, "ROUNDS": 1, "SIZES": (8,), "PICTURES": 2}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(benchmarks("loader"), "PICTURES", 2)
    monkeypatch.setattr(module, "alone", lambda work, *arguments: work(*arguments))
    loaders, index = module.shards(20)
    [(size, folder_rate, shard_rate, ratio)] = loaders.rows
    assert (size, ratio) == ("8×8", pytest.approx(shard_rate / folder_rate))
    assert index.title == "20 samples in 2 shards"
    assert index.rows[2][3] == pytest.approx(9 / index.rows[2][1])


def test_a_benchmark_without_its_packages_says_in_one_line_what_to_install(benchmarks, monkeypatch):
    monkeypatch.setattr(benchmarks("loader"), "RELEASED", ("json", "no_such_reader"))
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "loader"])
    message = r"^error: loader needs .* finds no no_such_reader; pip install 'vse_gpo\[benchmark\]'$"
    with pytest.raises(SystemExit, match=message):
        import_module("scripts.benchmark").main()


def test_ranking_of_the_plain_way_runs_on_the_same_embeddings(benchmarks):
    images, captions = benchmarks("galleries").embeddings(20, 5, 16)
    assert captions.shape == (100, 16)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(20))
    benchmarks("ranking").plain_recalls(images, captions)


def test_search_compares_every_kind_with_a_plain_product(benchmarks, monkeypatch):
    module = benchmarks("search")
    monkeypatch.setattr(module, "alone", lambda work, *arguments: work(*arguments))
    monkeypatch.setattr(module, "BLOCK", 700)
    table, forms = module.search(2000, 32)
    assert [row[0].partition(",")[0] for row in table.rows] == ["product and largest values", "kind=flat", "kind=ivf"]
    assert [row[2] for row in table.rows[:2]] == [100.0, 100.0]
    assert table.rows[2][2] > 90
    assert [row[1] for row in forms.rows] == [128, 64, 36, 8]
    recalls = [row[2] for row in forms.rows]
    assert recalls == sorted(recalls, reverse=True)
    assert recalls[0] == 100.0
    assert all(row[3] >= row[2] for row in forms.rows)


def test_estimates_from_bits_are_right_on_average(benchmarks):
    module = benchmarks("search")
    vectors = torch.nn.functional.normalize(torch.randn(4000, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    errors = module.by_bits(vectors[:3], vectors) - vectors[:3] @ vectors.T
    assert abs(float(errors.mean())) < 0.002
    assert float(errors.std()) < 0.12  # about √(π/2 − 1) / √64, as its authors prove


def test_interactions_are_compared_with_the_products_of_their_items(benchmarks, monkeypatch):
    module = benchmarks("interaction")
    for name, value in {"IMAGES": 3, "CAPTIONS": 4, "PAIRS": 4, "REGIONS": 2, "WORDS": 5, "WIDTH": 6}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "alone", lambda work, *arguments: work(*arguments))
    table, steps = module.interaction()
    assert [row[0] for row in table.rows] == list(module.INTERACTIONS)
    assert all(row[3] == pytest.approx(row[2] / row[1]) for row in table.rows)
    assert [row[0] for row in steps.rows] == list(module.INTERACTIONS)
    assert all(row[at + 2] == pytest.approx(row[at + 1] / row[at]) for row in steps.rows for at in (1, 4))


def test_a_server_is_asked_by_all_clients_and_its_refusals_are_counted(benchmarks):
    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200 if self.path == "/well" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever).start()
        found = benchmarks("serving").load(os.getpid(), server.server_port, ["/well", "/ill"], 3, 4)
        server.shutdown()
    assert found[:2] == [12, 6]
    assert 0 < found[2] <= found[3] <= found[4]
    assert found[-1] > 10

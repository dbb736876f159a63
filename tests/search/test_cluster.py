"""Indexing on a cluster of Ray: in this process with the cluster left out, and, slowly, on a real one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

pytest.importorskip("ray", reason="engine=ray needs Ray")

import lance
from PIL import Image

from tests.helpers.photo_folder import paint, small_model
from tests.helpers.photo_index import FILES, run_index, vectors
from vse_gpo.errors import VSEError
from vse_gpo.search import cluster, updating
from vse_gpo.search.cluster import RayEngine, ShardEmbedder, cluster_told
from vse_gpo.search.index import Index


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    small_model().save_pretrained(folder)
    return folder


@pytest.fixture
def pictures(pictures) -> Path:
    (pictures / "broken.png").write_bytes(b"no image")
    return pictures


@pytest.fixture
def shards(monkeypatch) -> list[list[str]]:
    """Lets shards be embedded in this process, and notes their files."""
    given: list[list[str]] = []

    def results(self, shards, settings):
        embedder = ShardEmbedder(*settings)
        for shard in shards:
            given.append([picture.file for picture in shard])
            yield embedder({name: [getattr(one, name) for one in shard] for name in shard[0]._fields})

    monkeypatch.setattr(RayEngine, "_results", results)
    monkeypatch.setattr(cluster.ray, "put", lambda model: model)
    monkeypatch.setattr(cluster, "on_ray", nullcontext)
    return given


def test_fragments_of_shards_make_the_same_index(shards, pictures, model, tmp_path, capsys):
    given = f"images={pictures}", f"model={model}"
    run_index(*given, f"out={tmp_path / 'here'}")
    run_index(*given, f"out={tmp_path / 'there'}", "engine=ray", "engines.ray.shard=3")
    assert [len(shard) for shard in shards] == [3, 3, 1]  # after a batch of two
    here, there = vectors(tmp_path / "here"), vectors(tmp_path / "there")
    assert here.keys() == there.keys() == {*FILES}
    assert all(torch.allclose(here[file], there[file], atol=1e-6) for file in FILES)
    tables = [
        Index.load(tmp_path / name).table.read(["file", "hash", "bytes", "modified"]) for name in ("here", "there")
    ]
    assert tables[0].sort_by("file") == tables[1].sort_by("file")
    assert capsys.readouterr().out.count("skipped broken.png: ") == 2
    paint(pictures / "new.png", 99)
    run_index(*given, f"out={tmp_path / 'there'}", "engine=ray")
    assert shards[-1] == ["broken.png", "new.png"]


def test_committed_fragments_are_not_embedded_again(shards, pictures, model, tmp_path, monkeypatch):
    monkeypatch.setattr(updating, "SAVE_EVERY", 0)
    given = f"images={pictures}", f"model={model}", f"out={tmp_path / 'index'}", "engine=ray", "engines.ray.shard=2"
    results = RayEngine._results

    def lost(self, shards, settings):
        for number, found in enumerate(results(self, shards, settings)):
            if number == 2:  # written and not committed
                raise cluster.ray.exceptions.RayError("the cluster is gone")
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(RayEngine, "_results", lost)
        with pytest.raises(VSEError, match="engine=ray: the cluster is gone; what was committed is kept"):
            run_index(*given)
    done = {file for shard in shards[:2] for file in shard} & {*FILES}
    assert len(done) == 3
    shards.clear()
    run_index(*given)
    assert not done & {file for shard in shards for file in shard}
    assert vectors(tmp_path / "index").keys() == {*FILES}
    table = tmp_path / "index" / "images.lance"
    used = {file.path for fragment in lance.dataset(table).get_fragments() for file in fragment.data_files()}
    assert {path.name for path in (table / "data").iterdir()} == used  # what was not committed is removed


def test_an_error_of_an_actor_is_told_as_it_is():
    class Wrapped(cluster.ray.exceptions.RayError):
        cause = VSEError("a disk is full")

    with pytest.raises(VSEError, match=r"^a disk is full$"), cluster_told():
        raise Wrapped


def test_an_unknown_engine_is_one_line(pictures, model, tmp_path):
    with pytest.raises(VSEError, match=r"engine=locl: no such engine \(did you mean local\?\); there are local, ray"):
        run_index(f"images={pictures}", f"model={model}", f"out={tmp_path / 'index'}", "engine=locl")


def children(pid: int) -> list[int]:
    """All processes that a process has started, and those that they have."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(place.parent.name)] = int(place.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        own = [child for child, above in parents.items() if above == parent]
        found += own
        waiting += own
    return found


def actors_of(pid: int) -> list[int]:
    """Processes of Ray that embed."""

    def is_actor(child: int) -> bool:
        try:
            return Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"ray::MapWorker")
        except OSError:
            return False

    return [child for child in children(pid) if is_actor(child)]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["actor", "command"])
def test_a_real_cluster_of_two_loses_a_process(victim, model, tmp_path):
    for seed in range(8):
        large = Image.open(paint(tmp_path / "small.png", seed)).resize((1600, 1200))
        (tmp_path / "pictures").mkdir(exist_ok=True)
        large.save(tmp_path / "pictures" / f"{seed}.jpg")
    for number in range(8, 400):
        shutil.copy(tmp_path / "pictures" / f"{number % 8}.jpg", tmp_path / "pictures" / f"{number}.jpg")
    given = [f"images={tmp_path / 'pictures'}", f"model={model}", "accelerator=cpu", "workers=0", "batch_size=8"]
    out = tmp_path / "there"
    how = [f"out={out}", "engine=ray", "engines.ray.actors=2", "engines.ray.shard=16"]
    command = [sys.executable, "-m", "vse_gpo.index", *given, *how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        fragments = out / "images.lance" / "data"
        while process.poll() is None and len([*fragments.glob("*.lance")] if fragments.is_dir() else []) < 4:
            time.sleep(0.01)
        assert process.poll() is None, process.stdout.read()
        actors = actors_of(process.pid)
        assert len(actors) == 2
        os.kill(actors[0] if victim == "actor" else process.pid, signal.SIGKILL)
        if victim == "command":
            process.wait()
            for child in actors:  # Ray ends them
                while Path(f"/proc/{child}").exists():
                    time.sleep(0.1)
            again = subprocess.run(command, capture_output=True, text=True, check=False)
            status, said = again.returncode, again.stdout + again.stderr
        else:
            said, _ = process.communicate()
            status = process.returncode
    assert status == 0, said
    assert "400 images (400 new" in said
    run_index(*given, f"out={tmp_path / 'here'}")
    here, there = vectors(tmp_path / "here"), vectors(out)
    assert here.keys() == there.keys()
    assert len(Index.load(out)) == 400
    assert all(torch.allclose(here[file], there[file], atol=1e-6) for file in here)

"""An index whose table lies in an object store, served on this machine by moto."""

import json
from itertools import count

import pytest
import torch

from tests.helpers.photo_folder import paint, small_model
from tests.helpers.photo_index import FILES, run_index, vectors
from vse_gpo.errors import VSEError
from vse_gpo.search.index import Index

boto3 = pytest.importorskip("boto3")
moto_server = pytest.importorskip("moto.server")
NUMBERS = count()  # what a server holds outlives it


@pytest.fixture
def bucket(monkeypatch):
    """Address of an empty bucket."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "ACCESS_KEY_ID": "any",
        "SECRET_ACCESS_KEY": "any",
        "REGION": "us-east-1",
        "DEFAULT_REGION": "us-east-1",
    }
    for name, value in {**settings, "ENDPOINT": f"http://{host}:{port}", "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
    name = f"photographs-{next(NUMBERS)}"
    client.create_bucket(Bucket=name)
    yield f"s3://{name}"
    client.close()
    server.stop()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    small_model().save_pretrained(folder)
    return folder


def test_the_table_lies_there_and_finds_what_a_local_one_does(bucket, pictures, model, tmp_path, capsys):
    here, there = tmp_path / "here", tmp_path / "there"
    run_index(f"images={pictures}", f"model={model}", f"out={here}")
    run_index(f"images={pictures}", f"model={model}", f"out={there}", f"table={bucket}/mine.lance")
    assert f"table: {bucket}/mine.lance" in capsys.readouterr().out
    assert {path.name for path in there.iterdir()} == {"index.json", "indexing.log"}
    query = torch.stack([vectors(here)[FILES[1]]])
    assert Index.load(there).hits(query, 3) == Index.load(here).hits(query, 3)
    (pictures / FILES[0]).unlink()
    paint(pictures / "new.png", 91)
    run_index(f"images={pictures}", f"out={there}")  # it knows where its table is
    assert sorted(vectors(there)) == sorted(["new.png", *FILES[1:]])
    with pytest.raises(VSEError, match=rf"table={bucket}/other.lance: the index has its table in {bucket}/mine.lance"):
        run_index(f"images={pictures}", f"out={there}", f"table={bucket}/other.lance")


def test_the_table_of_another_folder_is_left_alone(bucket, pictures, model, tmp_path):
    mine, other = (tmp_path / name for name in ("mine", "other"))
    run_index(f"images={pictures}", f"model={model}", f"out={mine}", f"table={bucket}/mine.lance")
    before = vectors(mine)
    with pytest.raises(VSEError, match=rf"table={bucket}/mine.lance: holds rows that .*/other did not write"):
        run_index(f"images={pictures}", f"model={model}", f"out={other}", f"table={bucket}/mine.lance")
    after = vectors(mine)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[file], after[file]) for file in before)


def test_a_killed_command_leaves_rows_that_the_next_one_takes(bucket, pictures, model, tmp_path, monkeypatch):
    out, table = tmp_path / "index", f"table={bucket}/mine.lance"
    with monkeypatch.context() as patch:
        patch.setattr("vse_gpo.search.indexing.check_complete", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_index(f"images={pictures}", f"model={model}", f"out={out}", table)
    assert not (out / "index.json").exists()

    def embed_none(_model, _folder, new, *_):
        assert new == []
        return {}

    monkeypatch.setattr("vse_gpo.search.updating.embed_new", embed_none)
    run_index(f"images={pictures}", f"model={model}", f"out={out}", table)
    assert sorted(vectors(out)) == sorted(FILES)


def test_addresses_of_no_store_are_refused(pictures, model, tmp_path):
    with pytest.raises(VSEError, match=r"table=/etc: expected an address that begins with s3:// or gs:// or az://"):
        run_index(f"images={pictures}", f"model={model}", f"out={tmp_path / 'index'}", "table=/etc")
    out = tmp_path / "index"
    run_index(f"images={pictures}", f"model={model}", f"out={out}")
    settings = json.loads((out / "index.json").read_text())
    (out / "index.json").write_text(json.dumps(settings | {"table": str(tmp_path / "elsewhere.lance")}))
    with pytest.raises(VSEError, match="a damaged index"):
        Index.load(out)


def test_a_store_that_refuses_is_told_in_one_line(bucket, pictures, model, tmp_path):
    with pytest.raises(VSEError, match=r"the object store of its table does not answer .*404 Not Found") as error:
        run_index(f"images={pictures}", f"model={model}", f"out={tmp_path / 'index'}", "table=s3://nobody/mine.lance")
    assert "\n" not in str(error.value)

"""What goes to the hub and comes from it, and what a name or a network that is not there gives."""

import socket
import threading
import urllib.request
from contextlib import suppress
from pathlib import Path

import huggingface_hub
import pytest
from httpx import Request, Response
from huggingface_hub import HfApi, RepoUrl
from huggingface_hub.errors import GatedRepoError
from transformers import AutoModel

from tests.helpers.photo_folder import small_model
from tests.helpers.tiny_encoders import roberta_folder
from vse_gpo import VSE
from vse_gpo.errors import VSEError
from vse_gpo.storage import hub
from vse_gpo.storage.hub import cached_model, check_pretrained, fetch, load_pretrained


def test_a_model_is_in_the_cache_if_its_weights_are(monkeypatch, tmp_path):
    cached = {"config.json": str(tmp_path / "config.json")}
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda _, file: cached.get(file))
    assert cached_model("org/name") is None
    cached["pytorch_model.bin"] = str(tmp_path / "pytorch_model.bin")
    assert cached_model("org/name") == tmp_path
    monkeypatch.undo()
    assert cached_model("no hub id/at/all") is None


def test_a_model_goes_to_the_hub_with_its_card(monkeypatch):
    model, seen = small_model(), {}

    def create(repo_id, private, exist_ok):
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload(repo_id, folder_path, commit_message):
        seen.update(repo=repo_id, message=commit_message, files={path.name for path in Path(folder_path).iterdir()})
        seen["fingerprint"] = VSE.from_pretrained(folder_path).fingerprint()

    monkeypatch.setattr(huggingface_hub, "create_repo", create)
    monkeypatch.setattr(huggingface_hub, "upload_folder", upload)
    assert model.push_to_hub("me/vse", metrics={"coco_5k": {"rsum": 432.16}}) == "https://huggingface.co/me/vse"
    assert seen == {
        "repo": "me/vse",
        "message": "Upload the model",
        "files": {"vse_gpo.json", "model.safetensors", "README.md"},
        "fingerprint": model.fingerprint(),
    }


def test_a_hub_that_does_not_take_a_model_gives_one_line():
    with pytest.raises(VSEError, match="me/vse: the Hugging Face hub does not take the model") as error:
        small_model().push_to_hub("me/vse")  # the tests have no network
    assert "\n" not in str(error.value)


def test_a_name_that_neither_this_machine_nor_the_hub_knows_gives_one_line():
    with pytest.raises(VSEError, match=r"^text\.pretrained=no/such: neither a folder nor a model that the .*; name"):
        check_pretrained("no/such", "text.pretrained")  # the tests have no network


def test_files_that_the_hub_does_not_give_get_one_line(monkeypatch):
    with pytest.raises(VSEError, match=r"^model=no/such: the Hugging Face hub does not give its files .*hf auth login"):
        fetch("no/such", "model", ["*.json"])  # the tests have no network

    def gated(*arguments, **named):
        raise GatedRepoError(
            "403 Client Error\nYou must be logged in", response=Response(403, request=Request("GET", "x:"))
        )

    monkeypatch.setattr(huggingface_hub, "snapshot_download", gated)
    with pytest.raises(
        VSEError, match=r"if it is gated, accept its terms on its page and log in by hf auth login$"
    ) as error:
        fetch("some/gated", "model", ["*.json"])
    assert "\n" not in str(error.value)


def test_a_path_is_never_asked_for(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "model_info", lambda *_, **__: pytest.fail("asked the hub"))
    for name in ("./no", "/no", "~/no", "a/b/c", "a/no.pth"):
        with pytest.raises(VSEError, match="no such file or folder; name either"):
            check_pretrained(name, "model")


@pytest.fixture
def silent_hub(monkeypatch):
    """A hub that takes requests and never answers; the list of its connections."""
    server = socket.create_server(("127.0.0.1", 0))
    taken = []

    def accept():
        with suppress(OSError):
            while True:
                taken.append(server.accept()[0])

    listening = threading.Thread(target=accept)
    listening.start()
    api = HfApi(endpoint=f"http://127.0.0.1:{server.getsockname()[1]}")
    monkeypatch.setattr(huggingface_hub, "model_info", api.model_info)
    monkeypatch.setattr(hub, "PATIENCE", 0.2)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    yield taken
    server.shutdown(socket.SHUT_RDWR)
    listening.join()
    for one in (server, *taken):
        one.close()


def test_a_hub_that_does_not_answer_is_asked_once_and_its_cache_is_used(silent_hub, monkeypatch, tmp_path):
    with pytest.raises(VSEError, match=r"model=org/name: neither a folder nor a model .*timed out"):
        check_pretrained("org/name", "model")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file: str(tmp_path / file))
    with pytest.warns(UserWarning, match=r"the Hugging Face hub does not answer \(.*timed out\): its cache is used"):
        check_pretrained("org/name", "model")
    assert hub.constants.is_offline_mode()
    check_pretrained("org/name", "model")
    assert len(silent_hub) == 2


def test_a_server_that_does_not_answer_costs_seconds(silent_hub, monkeypatch):
    api = huggingface_hub.model_info.__self__
    with hub.impatient(), pytest.raises(OSError, match="timed out"):
        urllib.request.urlopen(api.endpoint)  # noqa: S310, as torch.hub asks for weights
    assert socket.getdefaulttimeout() is None


def test_a_folder_is_loaded_and_one_without_a_model_gives_one_line(tmp_path):
    known = {"setting": "text.pretrained", "expected": "encoder", "remedy": "name another"}
    roberta = roberta_folder(tmp_path / "roberta")
    assert load_pretrained(AutoModel.from_pretrained, str(roberta), **known).config.hidden_size == 8
    (tmp_path / "empty").mkdir()
    line = r"^text\.pretrained=\S+empty: the folder gives no encoder \([^\n]+\); name another$"
    with pytest.raises(VSEError, match=line):
        load_pretrained(AutoModel.from_pretrained, str(tmp_path / "empty"), **known)
    (roberta / "adapter_config.json").write_text('{"base_model_name_or_path": "account/other"}')
    with pytest.raises(VSEError, match="only an adapter of another model; merge it and save the whole"):
        load_pretrained(AutoModel.from_pretrained, str(roberta), **known)

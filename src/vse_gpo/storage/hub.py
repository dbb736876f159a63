"""Models on the Hugging Face hub: asked once, so that a wrong name, a missing network or a silent hub fails fast."""

import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import huggingface_hub  # whose parts are loaded when they are named: without a model of the hub, none
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from vse_gpo.errors import VSEError, first_line

Loaded = TypeVar("Loaded")

PATIENCE = 5.0  # seconds that a server may take to answer
FILES = (".ckpt", ".pth", ".tar", ".pt", ".bin", ".safetensors", ".npz", ".npy")  # suffixes that no hub id ends in
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")  # one of them, in every model
ADAPTER = "adapter_config.json"


def is_path(source: str) -> bool:
    """Whether a source that is not there was meant as a file or folder, as no hub id looks like it."""
    return Path(source).suffix.lower() in FILES or source.startswith(("/", ".", "~")) or source.count("/") > 1


def load_pretrained(load: Callable[[str], Loaded], name: str, setting: str, *, expected: str, remedy: str) -> Loaded:
    """Load from a hub id or a folder with a function of transformers.

    Args:
        load: takes the name; raises OSError or ValueError if there is nothing to load.
        name: hub id of a model, or a folder.
        setting: setting that gave the name, for the message.
        expected: what should be loaded, for the message.
        remedy: what to do if it cannot be loaded, for the message.

    Raises:
        VSEError: if it is neither a folder nor known to the hub, or nothing can be loaded from it.
    """
    place = Path(name).expanduser()
    if place.is_dir():
        name = str(place)
        if (place / ADAPTER).is_file():  # with peft installed, transformers would fetch the model that it names
            raise VSEError(f"{setting}={name}: only an adapter of another model; merge it and save the whole")
    check_pretrained(name, setting)
    try:
        return load(name)
    except (OSError, ValueError) as error:
        where = "the folder gives" if Path(name).is_dir() else "the hub gives"
        raise VSEError(f"{setting}={name}: {where} no {expected} ({first_line(error)}); {remedy}") from error


def check_pretrained(name: str, setting: str, *files: str) -> None:
    """Fail fast if neither this machine nor the hub has a model; the loaders would repeat their requests for minutes.

    Args:
        name: hub id of a model, or a folder.
        setting: setting that gave the name, for the message.
        files: every such model has one of these, config.json if none is named.

    Raises:
        VSEError: if it is not a folder or in the hub's cache, and the hub does not know it or cannot be reached.
    """
    if not Path(name).is_dir() and (reason := refusal(name, *files)):
        raise VSEError(f"{setting}={name}: {reason}; name either")


def refusal(name: str, *files: str) -> str:
    """Why the hub does not give a model; empty if it does, or its cache has the model.

    A hub that does not answer is not asked again in this process, where only its cache is then used.

    Args:
        name: hub id of a model.
        files: see ``check_pretrained``.
    """
    if is_path(name):
        return "no such file or folder"
    try:
        huggingface_hub.model_info(name, timeout=PATIENCE)
    except Exception as error:  # from the hub, or from its HTTP library, which depends on its version
        if not any(_is_cached(name, file) for file in files or ("config.json",)):
            return f"neither a folder nor a model that the Hugging Face hub gives ({first_line(error)})"
        if not isinstance(error, HfHubHTTPError | OfflineModeIsEnabled):
            warnings.warn(
                f"the Hugging Face hub does not answer ({first_line(error)}): its cache is used", stacklevel=2
            )
            constants.HF_HUB_OFFLINE = True  # the loaders of transformers, timm and the hub look at it
    return ""


def cached_model(name: str) -> Path | None:
    """The folder of a model in the hub's cache, if its weights are there; nothing is asked of the hub.

    Args:
        name: hub id of a model; a name that is none has no folder.
    """
    for file in WEIGHTS:
        try:
            found = huggingface_hub.try_to_load_from_cache(name, file)
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None


def _is_cached(name: str, file: str) -> bool:
    return isinstance(huggingface_hub.try_to_load_from_cache(name, file), str)


@contextmanager
def impatient() -> Iterator[None]:
    """A server that is asked inside has a few seconds for each answer; without this, some loaders wait forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def fetch(name: str, setting: str, patterns: Sequence[str]) -> Path:
    """The folder of a model of the hub, with its files that fit the patterns.

    Args:
        name: hub id of a model.
        setting: setting that gave the name, for the message.
        patterns: as a shell takes them.

    Raises:
        VSEError: if the hub does not give them, as for a model whose owner asks for an agreement first.
    """
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(patterns)))
    except Exception as error:  # as above
        raise VSEError(
            f"{setting}={name}: the Hugging Face hub does not give its files ({first_line(error)}); if it is gated, "
            "accept its terms on its page and log in by hf auth login"
        ) from error


def upload(folder: Path, repo_id: str, *, private: bool, message: str) -> str:
    """Upload a folder to a model repository on the hub, created if missing; return its address.

    Raises:
        VSEError: if the hub rejects the files.
    """
    try:
        address = huggingface_hub.create_repo(repo_id, private=private, exist_ok=True)
        huggingface_hub.upload_folder(repo_id=address.repo_id, folder_path=folder, commit_message=message)
    except Exception as error:  # as above
        raise VSEError(
            f"{repo_id}: the Hugging Face hub does not take the model ({first_line(error)}); log in by hf auth login, "
            "with a token that may write there"
        ) from error
    return str(address)

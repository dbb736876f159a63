"""Models on the Hugging Face hub: asked for once, so that a wrong name or a missing network shows at once."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from huggingface_hub import create_repo, model_info, try_to_load_from_cache, upload_folder

from vse_gpo.errors import VSEError, first_line

Loaded = TypeVar("Loaded")


def load_pretrained(load: Callable[[str], Loaded], name: str, setting: str, *, expected: str, remedy: str) -> Loaded:
    """What a function of transformers makes of a hub name or a folder.

    Args:
        load: takes the name; its OSError and ValueError tell that there is nothing to load.
        name: of a model on the hub, or a folder.
        setting: that the name was given for.
        expected: what was to be loaded.
        remedy: what to do where it cannot be.

    Raises:
        VSEError: if it is neither a folder nor known to the hub, or nothing can be loaded from it.
    """
    place = Path(name).expanduser()
    if place.is_dir():
        name = str(place)
    check_pretrained(name, setting)
    try:
        return load(name)
    except (OSError, ValueError) as error:
        where = "the folder gives" if Path(name).is_dir() else "the hub gives"
        raise VSEError(f"{setting}={name}: {where} no {expected} ({first_line(error)}); {remedy}") from error


def check_pretrained(name: str, setting: str, file: str = "config.json") -> None:
    """Stop where neither this machine nor the hub has a model; the loaders would try for half a minute or longer.

    Args:
        name: of a model on the hub, or a folder.
        setting: that the name was given for.
        file: that every such model has.

    Raises:
        VSEError: if it is no folder, not in the hub's cache, and the hub does not know it or cannot be reached.
    """
    if Path(name).is_dir():
        return
    try:
        if not isinstance(try_to_load_from_cache(name, file), str):
            model_info(name, timeout=10)
    except Exception as error:  # of the hub, and of the HTTP library under it, which its versions exchange
        raise VSEError(
            f"{setting}={name}: neither a folder nor a model that the Hugging Face hub gives ({first_line(error)}); "
            "name either"
        ) from error


def upload(folder: Path, repo_id: str, *, private: bool, message: str) -> str:
    """Put a folder's files into a model's repository on the hub, which is made if it is not there; its address.

    Raises:
        VSEError: if the hub does not take them.
    """
    try:
        address = create_repo(repo_id, private=private, exist_ok=True)
        upload_folder(repo_id=address.repo_id, folder_path=folder, commit_message=message)
    except Exception as error:  # as above
        raise VSEError(
            f"{repo_id}: the Hugging Face hub does not take the model ({first_line(error)}); log in by hf auth login, "
            "with a token that may write there"
        ) from error
    return str(address)

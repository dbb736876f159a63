"""Files and folders in a config that are not there, told before anything is read or fetched."""

from pathlib import Path

from vse_gpo.errors import VSEError
from vse_gpo.storage.settings import Settings, walk

FILES = ("weights", "vocabulary", "dense")  # last parts of settings' names
FOLDERS = ("trunk",)


def check_places(settings: Settings) -> None:
    """Refuse files and folders that are not there, where a setting can name nothing else.

    Args:
        settings: of a command as plain containers, interpolations unresolved.

    Raises:
        VSEError: if one is not there.
    """
    for name, value in walk(settings):
        last = name.rpartition(".")[2]
        if not isinstance(value, str) or "${" in value or last not in FILES + FOLDERS:
            continue
        place = Path(value).expanduser()
        if last in FILES and not place.is_file():
            raise VSEError(f"{name}={value}: no such file")
        if last in FOLDERS and not place.is_dir():
            raise VSEError(f"{name}={value}: no such folder")

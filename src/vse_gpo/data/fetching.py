"""Files from the network: whole and checked, or not there; a download that was cut off resumes."""

import hashlib
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from huggingface_hub.file_download import http_get

from vse_gpo.data.addresses import Address, file_size
from vse_gpo.errors import VSEError, first_line
from vse_gpo.storage.locks import only_process_in
from vse_gpo.storage.writing import whole_file, whole_folder

DOWNLOADS = "downloads"  # folder of a data set for files that are unpacked
PART = ".download"  # ends the name of what is not whole


def download(source: Address, path: Path) -> Path:
    """Fetch a file from its address or, if that fails, from the first of its copies that gives it.

    Args:
        source: see ``download_from``.
        path: see ``download_from``.

    Raises:
        VSEError: if no address gives it; says what the first one did.
    """
    errors = []
    for address in (source.address, *source.copies):
        try:
            return download_from(replace(source, address=address), path)
        except VSEError as error:
            errors.append(error)
    raise errors[0]


def download_from(source: Address, path: Path) -> Path:
    """Fetch a file with a progress bar; it gets its name when it is whole and right.

    Args:
        source: the address, with size and checksum if they are known.
        path: what the file is called here; what is there already stays.

    Raises:
        VSEError: if it cannot be fetched, the disk is too small, or the checksum is wrong.
    """
    if path.exists():
        return path
    part = path.with_name(path.name + PART)
    with only_process_in(path.parent):
        done = part.stat().st_size if part.exists() else 0
        free = shutil.disk_usage(path.parent).free
        if source.size is not None and free < source.size - done:
            raise VSEError(f"{path.parent}: {file_size(free)} free, {file_size(source.size - done)} needed")
        try:
            with part.open("ab") as file:
                http_get(source.address, file, resume_size=done, expected_size=source.size)
        except Exception as error:  # of its HTTP library, which depends on its version
            raise VSEError(
                f"{source.address}: cannot be fetched ({first_line(error)}); the same command resumes"
            ) from error
        if source.sha256 is not None and not (found := _sha256(part)).startswith(source.sha256):
            part.unlink()
            raise VSEError(f"{source.address}: checksum {found[:16]}…, expected {source.sha256[:16]}…; removed")
        part.replace(path)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack_folder(archive: Path, folder: Path) -> None:
    """Write the files that a zip has in the folder's name, at whatever depth; the folder is there when it is whole.

    Args:
        archive: zip; removed afterwards.
        folder: new; its name is a folder's name in the zip.

    Raises:
        VSEError: if the archive is damaged or has no such folder.
    """
    try:
        with zipfile.ZipFile(archive) as content, whole_folder(folder) as part:
            members = [one for one in content.infolist() if folder.name in PurePosixPath(one.filename).parts[:-1]]
            if not members:
                raise VSEError(f"{archive}: no folder {folder.name} in it")
            for one in members:
                if not one.is_dir():
                    parts = PurePosixPath(one.filename).parts
                    place = part.joinpath(*parts[parts.index(folder.name) + 1 :]).resolve()
                    if not place.is_relative_to(part.resolve()):
                        raise VSEError(f"{archive}: {one.filename!r} lies outside it")
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with content.open(one) as packed, place.open("wb") as file:
                        shutil.copyfileobj(packed, file)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError) as error:
        raise VSEError(f"{archive}: not a whole zip ({first_line(error)}); remove it and fetch it again") from error
    archive.unlink()


def unpack_file(archive: Path, name: str) -> Path:
    """Write one file of a zip beside it, and give its path.

    Args:
        archive: zip.
        name: of the file, without the folders above it.

    Raises:
        VSEError: if the archive is damaged or has no such file.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            member = next((one for one in content.namelist() if PurePosixPath(one).name == name), None)
            if member is None:
                raise VSEError(f"{archive}: no {name} in it")
            with content.open(member) as packed, whole_file(archive.with_name(name)) as file:
                shutil.copyfileobj(packed, file)
    except zipfile.BadZipFile as error:
        raise VSEError(f"{archive}: not a whole zip ({first_line(error)}); remove it and fetch it again") from error
    return archive.with_name(name)

"""Ask a page that runs: its index and its model are loaded already, and PyTorch is not needed here."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from vse_gpo.errors import VSEError, printable
from vse_gpo.search.parts import Part, check_unicode, parts_of
from vse_gpo.search.telling import Answer, tell_answers

OPTIONS = ("top", "rerank", "where", "after", "before", "near", "camera", "folder")
SECONDS = 60  # until an answer has to come
EXAMPLE = "http://127.0.0.1:7860"


def search_page(
    *,
    page: str,
    query: str | None,
    image: str | None,
    interactive: bool,
    stdin: bool,
    nearest: bool,
    json: bool,
    options: Mapping[str, Any],
) -> None:
    """Print the images that fit best, as a page finds them.

    Args:
        page: address of ``vse-app``.
        query, image: text or image file to search for.
        interactive, stdin, nearest, json: see ``tell_answers``.
        options: those of the page's API by name; None leaves one out.

    Raises:
        VSEError: if nothing or something else answers there, or the page cannot answer the query.
    """
    ask = partial(ask_page, page, options={name: value for name, value in options.items() if value is not None})
    parts = parts_of(query, image)
    tell_answers(ask, parts, interactive=interactive, stdin=stdin, nearest=nearest, as_json=json)


def ask_page(page: str, parts: Sequence[Part], *, options: Mapping[str, Any]) -> Answer:
    """What a page answers to a text, or to an image file that is sent to it.

    Args:
        page: its address.
        parts: of the query, which has only one.
        options: see ``search_page``.

    Raises:
        VSEError: see ``search_page``; or if a text is not UTF-8 or the file cannot be read.
    """
    if len(parts) != 1:
        raise VSEError(f"page={page}: a page answers one text or one image; leave page out, and name the index")
    [part] = parts
    check_unicode(part.content)
    if not part.is_image:
        return _fetched(page, f"search?{urlencode({'query': part.content, **options})}")
    try:
        body = Path(part.content).expanduser().read_bytes()
    except OSError as error:
        raise VSEError(f"{part.content}: {error.strerror}; name an image file") from None
    return _fetched(page, f"similar?{urlencode(options)}", body)


def _fetched(page: str, request: str, body: bytes | None = None) -> Answer:
    """The JSON that is found under an address of the page's API."""
    if not _is_address(page):
        raise VSEError(f"page={page}, expected an address such as {EXAMPLE}")
    other = f"page={page}: no vse-app answers there, but another program; name another address"
    try:
        with _open(Request(f"{page.rstrip('/')}/api/{request}", data=body), timeout=SECONDS) as answer:  # noqa: S310, checked
            found = json.load(answer)
    except HTTPError as error:
        raise VSEError(_told(error) or other) from None
    except ValueError:  # it is not JSON
        raise VSEError(other) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise VSEError(f"page={page}: {reason}; start vse-app index=… there, or name the index in its place") from None
    if not isinstance(found, dict) or "hits" not in found:
        raise VSEError(other)
    return found


def _is_address(page: str) -> bool:
    try:
        parts = urlsplit(page)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0  # reads the port, too
    except ValueError:
        return False


def _told(error: HTTPError) -> str | None:
    """Why the page did not answer, in its own words; None if it has none, so that it is no page of ours."""
    try:
        line = json.load(error)["error"]
    except (ValueError, KeyError, TypeError):
        return None
    return printable(line) if isinstance(line, str) else None


_open = build_opener(ProxyHandler({})).open  # a page on this machine is not behind a proxy

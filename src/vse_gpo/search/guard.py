"""Who may ask the page: known hosts and its own origin only, and only so many uploads.

A page on the loopback address is still reached from any site that the user's browser shows: by requests from that site,
and by a name of that site that suddenly stands for this machine (DNS rebinding).
"""

import ipaddress
import os
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from vse_gpo.errors import printable
from vse_gpo.storage.writing import folder_size

UPLOADS = ("/upload", "/api/similar")  # ends of the addresses that files are sent to
KEPT_SETTINGS = {"GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"}  # of Gradio's variables


def without_settings_of_gradio() -> None:
    """Remove Gradio's variables from the environment, and say so: they could publish the page, or serve more files."""
    for name in sorted(os.environ):
        if name.startswith("GRADIO_") and name not in KEPT_SETTINGS:
            del os.environ[name]
            sys.stderr.write(f"warning: {name} is ignored; the page has settings of its own, see vse-app --help\n")


def refused(status: int, line: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer to a request that is not answered.

    Args:
        status: of HTTP.
        line: why.
        headers: further ones.
    """
    return JSONResponse({"error": printable(line)}, status, headers)


def is_own_name(host: str) -> bool:
    """Whether only this machine itself reaches an address.

    Args:
        host: an address or a name.
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Refuses requests before the page or the API sees them.

    Args:
        app: the page.
        hosts: names that the page is reached by; addresses and ``localhost`` always are.
        uploads: folder that uploads are kept in.
        quota: bytes that may lie there.
    """

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], uploads: Path, quota: int) -> None:
        self.app = app
        self.hosts = {name.lower() for name in hosts}
        self.uploads = uploads
        self.quota = quota

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self.refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await refusal(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def refusal(self, scope: Scope) -> JSONResponse | None:
        """The answer to a request that is not let through."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self.is_known(host):
            line = f"host {host!r} is not known, expected an address or localhost; set hosts=[{host}] to allow it"
            return refused(421, line)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return refused(403, f"refused: asked by {origin}, expected this page itself")
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return refused(403, "refused: asked by another site, expected this page itself")
        if scope.get("method") == "POST" and scope["path"].endswith(UPLOADS):
            return self.refused_upload(headers.get("content-length", ""))
        return None

    def is_known(self, host: str) -> bool:
        """Whether a ``Host`` names this machine: no other site can make its visitors send an address."""
        if not re.fullmatch(r"(\[[\da-fA-F:.]+\]|[\w.-]+)(:\d+)?", host):
            return False
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost" or name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def refused_upload(self, length: str) -> JSONResponse | None:
        """The answer to an upload that does not fit."""
        if not length.isdecimal():
            return refused(411, "an upload without its length, expected Content-Length")
        if folder_size(self.uploads) + int(length) > self.quota:
            most = f"at most {self.quota // 10**6} MB"
            return refused(413, f"uploads have used up their space, {most}; try again in an hour")
        return None

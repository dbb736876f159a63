"""Where data come from, as ``addresses.yaml`` has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ADDRESSES = Path(__file__).with_name("addresses.yaml")


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a part of the data comes from, and what becomes of it; fetched only if one of the last three is set."""

    what: str
    address: str
    seen: str  # day on which it last answered
    size: int | None = None  # bytes
    sha256: str | None = None  # or its beginning
    copies: Sequence[str] = ()  # further addresses of the same bytes
    command: str | None = None  # that fetches it, where this package does not
    to: str | None = None  # file under the data set's folder
    unpack: str | None = None  # folder under the data set's folder that a zip has, without those above it
    prepare: str | None = None  # caption list in a zip

    @property
    def fetched(self) -> bool:
        """Whether ``fetch=true`` fetches it."""
        return any((self.to, self.unpack, self.prepare))

    def lines(self, fetch_command: str) -> list[str]:
        """What to show of it.

        Args:
            fetch_command: that fetches it, if this package does.
        """
        size = f", {file_size(self.size)}" if self.size else ""
        seen = f"seen {self.seen}" if self.seen[:1].isdigit() else self.seen
        command = fetch_command if self.fetched else self.command
        copies = [f"  copy: {copy}" for copy in self.copies]
        return [f"from {self.what}{size}: {self.address} ({seen})", *copies, *([f"  {command}"] if command else [])]


def file_size(size: int) -> str:
    """Bytes as text."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def read_addresses(name: str) -> dict[str, list[Address]]:
    """Part → addresses of a data set, none if it is not a published one; of ``models`` by their settings."""
    parts: dict[str, list[dict[str, Any]]] = _read_all().get(name, {})
    return {part: [Address(**{**one, "seen": str(one["seen"])}) for one in listed] for part, listed in parts.items()}


def hub_size(name: str) -> int | None:
    """About the bytes of a hub model's weights, if they are known."""
    size: int | None = _read_all().get("hub", {}).get(name)
    return size


def _read_all() -> dict[str, Any]:
    known: dict[str, Any] = yaml.safe_load(ADDRESSES.read_text(encoding="utf-8"))
    return known

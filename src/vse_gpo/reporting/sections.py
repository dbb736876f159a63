"""The sections of the page and of the dashboard, from one specification."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import yaml

SPECIFICATION = Path(__file__).with_name("sections.yaml")


@dataclass(frozen=True, kw_only=True)
class ShownSection:
    """A section; the specification says what its parts are.

    Args:
        title, about: its heading, and a line below it.
        lines: title of a chart → pattern of the logged metric.
        images, tables: keys of logged images and tables.
        importance: metric for which a sweep's settings are ranked; None in sections without.
        page: further content on the page; None for none.
    """

    title: str
    about: str
    lines: dict[str, str] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    importance: str | None = None
    page: str | None = None

    @property
    def patterns(self) -> list[str]:
        """Everything that a run has to log for this section."""
        return [*self.lines.values(), *self.images, *self.tables, *([self.importance] if self.importance else [])]


@cache
def shown_sections() -> tuple[ShownSection, ...]:
    """The sections in their order."""
    return tuple(ShownSection(**section) for section in yaml.safe_load(SPECIFICATION.read_text(encoding="utf-8")))


def logged_name(pattern: str, names: Iterable[str]) -> str | None:
    """The first of the logged names that a pattern stands for; None if there is none."""
    return next((name for name in names if fnmatchcase(name, pattern)), None)

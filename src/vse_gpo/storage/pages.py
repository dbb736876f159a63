"""Templates of HTML pages, in which any text may come from files of others."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vse_gpo.errors import printable


def page_templates(package: str) -> Environment:
    """The templates in a package: every value in them is escaped, also what would turn the text around it.

    Args:
        package: dotted name.
    """
    return Environment(loader=PackageLoader(package, "."), autoescape=True, undefined=StrictUndefined, finalize=_shown)


def _shown(value: Any) -> Any:
    return value if isinstance(value, Markup) else printable(str(value))

"""python -m vse_gpo.search "a dog on the beach" index=INDEX : the images that fit a text or an image best."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vse_gpo.cli.run import all_settings, run_command
from vse_gpo.errors import VSEError

PARTS = ("image", "plus", "plus_image", "minus", "minus_image")
VERBATIM = (*PARTS, "where", "after", "before", "near", "camera", "folder")


def main() -> None:
    """The command."""
    work = "vse_gpo.search.asking:search_index"
    run_command(work, "search", arguments=arguments, words=("query",), verbatim=VERBATIM, computes=True)


def arguments(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Arguments of ``vse_gpo.search.asking.search_index``.

    Raises:
        VSEError: if there is no query, or one where queries are read from elsewhere.
    """
    settings = all_settings(config, folder)
    given = [name for name in ("query", *PARTS) if (settings[name] or "").strip()]
    many = [name for name in ("interactive", "stdin") if settings[name]]
    if len(many) > 1 or (many and given):
        asked = [*(f"{name}=true" for name in many), *(f"{name}={settings[name]}" for name in given)]
        raise VSEError(f"{' and '.join(asked[:2])}, expected one of them")
    if not many and not given:
        raise VSEError('nothing to look for; add "a text" or image=FILE')
    return settings


if __name__ == "__main__":
    main()

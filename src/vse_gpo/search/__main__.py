"""python -m vse_gpo.search "a dog on the beach" index=INDEX : the images that fit a text or an image best."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vse_gpo.cli.run import all_settings, run_command
from vse_gpo.errors import VSEError


def main() -> None:
    """The command."""
    work = "vse_gpo.search.asking:search_index"
    run_command(work, "search", arguments=arguments, words=("query",), verbatim=("image",), computes=True)


def arguments(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Arguments of ``vse_gpo.search.asking.search_index``.

    Raises:
        VSEError: if there is no query, or two.
    """
    settings = all_settings(config, folder)
    query, image = settings["query"], settings["image"]
    if query is not None and image is not None:
        raise VSEError(f"2 queries, {query!r} and image={image}, expected one")
    if image is None and not (query or "").strip():
        raise VSEError('nothing to look for; add "a text" or image=FILE')
    return settings


if __name__ == "__main__":
    main()

"""python -m vse_gpo.search "a dog on the beach" index=INDEX : the images that fit a text or an image best."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from vse_gpo.cli.run import all_settings, run_command
from vse_gpo.errors import VSEError
from vse_gpo.search.client import OPTIONS

PARTS = ("image", "plus", "plus_image", "minus", "minus_image")
VERBATIM = (*PARTS, "where", "after", "before", "near", "camera", "folder")
OF_INDEX = ("index", "model", "tokenizer", "vocabulary")  # where it and its model lie


def main() -> None:
    """The command."""
    index, page = "vse_gpo.search.asking:search_index", {"page": "vse_gpo.search.client:search_page"}
    words = ("query",)
    run_command(index, "search", arguments=arguments, words=words, verbatim=VERBATIM, computes=True, instead=page)


def arguments(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Arguments of ``search_index``, or of ``search_page`` where a page is asked.

    Raises:
        VSEError: if there is no query, one where queries are read from elsewhere, or not one place to look in.
    """
    settings = all_settings(config, folder)
    given = [name for name in ("query", *PARTS) if (settings[name] or "").strip()]
    many = [name for name in ("interactive", "stdin") if settings[name]]
    if len(many) > 1 or (many and given):
        asked = [*(f"{name}=true" for name in many), *(f"{name}={settings[name]}" for name in given)]
        raise VSEError(f"{' and '.join(asked[:2])}, expected one of them")
    if not many and not given:
        raise VSEError('nothing to look for; add "a text" or image=FILE')
    if settings["page"] is None:
        if settings["index"] is None:
            raise VSEError("index must be set; add index=…, or page=… where vse-app runs")
        return {name: value for name, value in settings.items() if name != "page"}
    for names, why in ((OF_INDEX, "has its own"), (PARTS[1:], "takes one text or one image")):
        if odd := [name for name in names if settings[name] is not None]:
            raise VSEError(f"{odd[0]}={settings[odd[0]]} with page={settings['page']}, which {why}; leave one out")
    own = ("page", "query", "image", "interactive", "stdin", "nearest", "json")
    return {name: settings[name] for name in own} | {"options": {name: settings[name] for name in OPTIONS}}


if __name__ == "__main__":
    main()

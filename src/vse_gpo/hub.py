"""Models on the Hugging Face hub: asked for once, so that a wrong name or a missing network shows at once."""

from pathlib import Path

from huggingface_hub import model_info, try_to_load_from_cache

from vse_gpo.errors import VSEError


def check_pretrained(name: str, setting: str, file: str = "config.json") -> None:
    """Stop where neither this machine nor the hub has a model; the loaders would try for half a minute or longer.

    Args:
        name: of a model on the hub, or a folder.
        setting: that the name was given for.
        file: that every such model has.

    Raises:
        VSEError: if it is no folder, not in the hub's cache, and the hub does not know it or cannot be reached.
    """
    if Path(name).is_dir():
        return
    try:
        if not isinstance(try_to_load_from_cache(name, file), str):
            model_info(name, timeout=10)
    except Exception as error:  # whatever goes wrong, the hub does not give the model
        reason = str(error).strip().splitlines()[0]
        raise VSEError(
            f"{setting}={name}: neither a folder nor a model that the Hugging Face hub gives ({reason}); name either"
        ) from error

"""Models of open_clip → models: by name and tag, by hub id, or from a folder; needs the extra ``open_clip``."""

import json
import warnings
from pathlib import Path
from typing import Any

from vse_gpo.backbones.open_clip import OpenClipImageTower, OpenClipTextTower, taken_config
from vse_gpo.checkpoints.dual import whole_model
from vse_gpo.data.open_clip import open_clip
from vse_gpo.errors import VSEError, did_you_mean, first_line
from vse_gpo.model import VSE
from vse_gpo.storage.hub import check_pretrained

CONFIG = "open_clip_config.json"
NAMED, HUB, LOCAL = "open_clip:", "hf-hub:", "local-dir:"  # the last two are open_clip's own


def load_open_clip(source: str) -> VSE:
    """Load a model of open_clip.

    Args:
        source: ``open_clip:NAME/TAG``, ``hf-hub:ACCOUNT/NAME``, or ``local-dir:FOLDER`` with open_clip_config.json.

    Raises:
        VSEError: if there is no such model, or it has more than two towers.
    """
    name, tag, quick_gelu = source, None, False
    if source.startswith(NAMED):
        name, tag = _name_and_tag(source)
        known: dict[str, Any] = open_clip.pretrained.get_pretrained_cfg(name, tag)
        quick_gelu = bool(known.get("quick_gelu", False))
        if known.get("hf_hub"):
            check_pretrained(str(known["hf_hub"]).rstrip("/"), "model", CONFIG)
    elif source.startswith(HUB):
        check_pretrained(source.removeprefix(HUB), "model", CONFIG)
    try:
        config = _config(name)
        config |= {"quick_gelu": True} if quick_gelu else {}
        config = taken_config(config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks about what it finds, which the checks below make errors
            network: Any = open_clip.create_model(
                name,
                pretrained=tag,
                force_custom_text=True,
                force_quick_gelu=quick_gelu,
                pretrained_text=False,
                require_pretrained=True,
                weights_only=True,
            )
    except VSEError as error:
        raise VSEError(f"{source}: {error}") from error
    except Exception as error:  # of open_clip, the hub or the network
        raise VSEError(f"{source}: open_clip gives no model ({first_line(error)})") from error
    preprocess = network.visual.preprocess_cfg
    images = OpenClipImageTower(network.visual, config, mean=preprocess["mean"], std=preprocess["std"])
    logits = {"log_scale": float(network.logit_scale.detach())}
    if network.logit_bias is not None:
        logits["bias"] = float(network.logit_bias.detach())
    return whole_model(
        images=images,
        texts=OpenClipTextTower(network.text, config),
        prepare_images={"_target_": "vse_gpo.data.open_clip.OpenClipImages", "preprocess": _plain(preprocess)},
        tokenizer={
            "_target_": "vse_gpo.data.open_clip.OpenClipTokens",
            "text": config["text_cfg"],
            "pretrained": _tokenizer_of(name, config["text_cfg"]),
        },
        logits=logits,
    )


def _name_and_tag(source: str) -> tuple[str, str]:
    """Name and tag of weights that open_clip lists.

    Raises:
        VSEError: if it lists no such model or tag; those that it does are named.
    """
    name, _, tag = source.removeprefix(NAMED).partition("/")
    models = open_clip.pretrained.list_pretrained_models_by_tag(tag) if tag else []
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not tags:
        hint = did_you_mean(name, open_clip.list_models())
        raise VSEError(f"{source}: open_clip has no weights for {name}{hint}; expected {NAMED}NAME/TAG")
    if name not in models:
        raise VSEError(f"{source}: {name} has no weights called {tag or '…'}; there are {', '.join(tags)}")
    return name, tag


def _config(name: str) -> dict[str, Any]:
    """open_clip's ``model_cfg`` of a name as ``create_model`` takes it."""
    if not name.startswith(LOCAL):
        found = open_clip.get_model_config(name)
    else:
        place = Path(name.removeprefix(LOCAL)) / CONFIG
        try:
            found = json.loads(place.read_text(encoding="utf-8"))["model_cfg"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise VSEError(f"{place.name} cannot be read ({first_line(error)}), expected model_cfg in it") from error
    return dict(found)


def _tokenizer_of(name: str, text: dict[str, Any]) -> str | None:
    """Folder or hub id of the Hugging Face tokeniser; None for open_clip's own."""
    other = text.get("hf_tokenizer_name")
    if not other:
        return None
    return name.removeprefix(LOCAL) if name.startswith(LOCAL) else str(other)


def _plain(preprocess: dict[str, Any]) -> dict[str, Any]:
    """open_clip's ``preprocess_cfg`` as JSON would give it back."""
    plain: dict[str, Any] = json.loads(json.dumps(preprocess))
    return plain

"""Dual encoders of others as the start of a training: their towers, logits and preparation, as configs take them."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from vse_gpo.backbones.dual import (
    DualImages,
    DualTexts,
    dual_images_of,
    dual_texts_of,
    longest_text,
    tower_of,
    towers,
)
from vse_gpo.backbones.hugging_face import quietly
from vse_gpo.checkpoints.dual import (
    dual_config,
    dual_network,
    ignores_lower_case,
    image_processor,
    inner_folder,
    logits_of,
    mask_token_of,
    tokenizer_in,
)
from vse_gpo.checkpoints.sources import fetched
from vse_gpo.data.processors import ProcessorImages
from vse_gpo.errors import VSEError
from vse_gpo.losses import PairLogits
from vse_gpo.storage.hub import is_path

SETTING = "backbone.pretrained"


def dual_images(*, settings: str, weights: str | None, tokens: bool = True) -> DualImages:
    """Load the image tower of a dual encoder, in float32.

    Args:
        settings: JSON of what ``dual_images_of`` takes; see ``dual_facts``.
        weights: hub id of a dual encoder, or a folder that holds one; None takes only the settings.
        tokens: see ``DualImages``.

    Raises:
        VSEError: if there is no dual encoder.
    """
    given = json.loads(settings)
    if weights is None:
        return dual_images_of(**given, tokens=tokens)
    del given["config"]
    return DualImages(towers(_network(weights))[0].train(), **given, tokens=tokens)


def dual_texts(*, settings: str, weights: str | None, tokens: bool = True) -> DualTexts:
    """Load the text tower of a dual encoder, in float32.

    Args:
        settings: JSON of what ``dual_texts_of`` takes; see ``dual_facts``.
        weights: see ``dual_images``.
        tokens: see ``DualTexts``.

    Raises:
        VSEError: if there is no dual encoder.
    """
    given = json.loads(settings)
    if weights is None:
        return dual_texts_of(**given, tokens=tokens)
    del given["config"]
    return DualTexts(towers(_network(weights))[1].train(), **given, tokens=tokens)


def dual_logits(weights: str | None) -> PairLogits:
    """The logit scale and bias of a dual encoder.

    Args:
        weights: see ``dual_images``.

    Raises:
        VSEError: if there is no dual encoder.
    """
    return PairLogits() if weights is None else PairLogits(**logits_of(_network(weights)))


@lru_cache
@quietly()
def dual_facts(pretrained: str) -> dict[str, str | int | bool]:
    """What the small files of a dual encoder say about its towers and its inputs, for configs.

    Texts that are JSON keep what a file of somebody else holds out of the config's own language.

    Args:
        pretrained: hub id of a dual encoder, or a folder that holds one.

    Returns:
        ``images`` and ``texts`` (JSON of what ``dual_images`` and ``dual_texts`` take), ``processor`` (JSON of what
        ``ProcessorImages`` takes), and the tokeniser's ``tokenizer`` (its folder), ``max_tokens``, ``mask_token`` and
        ``lower_case``; see ``WordPieces``.

    Raises:
        VSEError: if there is no dual encoder, or its captions are padded at their beginning.
    """
    folder = _folder(pretrained)
    config, tokenizer = dual_config(folder), tokenizer_in(folder)
    processor = json.loads(image_processor(folder).to_json_string())
    pixels = ProcessorImages(processor=processor).normalization()
    with torch.device("meta"):
        images = dual_images_of(config.to_dict(), **pixels).architecture({})
        half = dual_texts_of(config.to_dict(), masked=True)
    max_tokens = min(longest_text(tower_of(half.network)), tokenizer.model_max_length)
    masked = "attention_mask" in tokenizer.model_input_names
    if not masked and tokenizer.padding_side != "right":
        raise VSEError(f"{SETTING}={pretrained}: its captions are padded at their beginning, which is not trained here")
    texts = half.architecture({}) | {"masked": masked}
    texts |= {} if masked else {"pad_to": max_tokens, "pad_id": tokenizer.pad_token_id}
    facts = {
        "images": _json({name: value for name, value in images.items() if name != "_target_"}),
        "texts": _json({name: value for name, value in texts.items() if name != "_target_"}),
        "processor": _json(processor),
        "tokenizer": str(folder),
        "max_tokens": max_tokens,
        "mask_token": mask_token_of(tokenizer),
        "lower_case": ignores_lower_case(tokenizer),
    }
    if "${" in "".join(map(str, facts.values())):  # a config that is read again would take it for its own
        raise VSEError(f"{SETTING}={pretrained}: ${{ in its files; fetch it again")
    return facts


def _json(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _folder(pretrained: str) -> Path:
    """The folder of a dual encoder; one of the hub is fetched.

    Raises:
        VSEError: if there is none.
    """
    place = Path(pretrained).expanduser()
    if not place.is_dir():
        if is_path(pretrained):
            raise VSEError(f"{SETTING}={pretrained}: no such folder; name one, or a hub id")
        place = fetched(pretrained, SETTING)
    return inner_folder(place)


@quietly()
def _network(pretrained: str) -> PreTrainedModel:
    folder = _folder(pretrained)
    return dual_network(folder, dual_config(folder))

"""Dual encoders as other programs store them → models: CLIP, SigLIP and their kind, with no training.

A folder is recognised by its ``config.json``; the library's own model and processor say how it reads images and texts.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from vse_gpo.backbones.backbone import Backbone
from vse_gpo.backbones.dual import DualImages, DualTexts, dual_class, longest_text, tower_of, towers
from vse_gpo.backbones.hugging_face import quietly, safe_config
from vse_gpo.data.processors import ProcessorImages
from vse_gpo.encoder import Encoder
from vse_gpo.errors import VSEError, first_line
from vse_gpo.losses import PairLogits
from vse_gpo.model import VSE
from vse_gpo.pooling import First
from vse_gpo.storage.hub import ADAPTER
from vse_gpo.storage.settings import build
from vse_gpo.storage.weights import check_values

CONFIG = "config.json"
MODULES = "modules.json"  # of sentence-transformers
EXPECTED = "expected CLIP, SigLIP or another model with an image and a text tower"
ALLOWED = ("position_ids",)  # ends of names that older files hold and no model needs


@quietly()
def load_dual(folder: Path) -> VSE:
    """Load a dual encoder from a folder that Hugging Face's or sentence-transformers' ``save_pretrained`` wrote.

    Raises:
        VSEError: if the folder holds another kind of model, lacks weights or the files of its processor, or needs code
            of its own.
    """
    folder = inner_folder(folder)
    config = dual_config(folder)
    network = dual_network(folder, config)
    settings, tokenizer = json.loads(image_processor(folder).to_json_string()), tokenizer_in(folder)
    logits = logits_of(network)
    images, texts = towers(network)
    padded = "attention_mask" not in tokenizer.model_input_names  # the tower was trained to read the padding
    try:
        return whole_model(
            images=DualImages(images, **ProcessorImages(processor=settings).normalization()),
            texts=DualTexts(texts, masked=not padded),
            prepare_images={"_target_": "vse_gpo.data.processors.ProcessorImages", "processor": settings},
            tokenizer={
                "_target_": "vse_gpo.data.word_pieces.WordPieces",
                "pretrained": str(folder),
                "max_tokens": min(longest_text(tower_of(texts)), tokenizer.model_max_length),
                "mask_token": mask_token_of(tokenizer),
                "padded": padded,
                "lower_case": ignores_lower_case(tokenizer),
            },
            logits=logits,
        )
    except VSEError as error:
        raise VSEError(f"{folder}: {error}") from error


def whole_model(
    *,
    images: Backbone,
    texts: Backbone,
    prepare_images: dict[str, Any],
    tokenizer: dict[str, Any],
    logits: dict[str, float],
) -> VSE:
    """A model in eval mode from two towers whose only item is their embedding, with the settings that save it.

    Args:
        images, texts: the towers, with their weights.
        prepare_images, tokenizer: settings of what makes the towers' inputs.
        logits: see ``PairLogits``.

    Raises:
        VSEError: if weights hold NaN or infinity, or the inputs cannot be made.
    """

    def encoder(backbone: Backbone) -> Encoder:
        return Encoder(backbone=backbone, projection=nn.Identity(), pooling=First())

    def settings(backbone: Backbone) -> dict[str, Any]:
        return {
            "_target_": "vse_gpo.encoder.Encoder",
            "backbone": backbone.architecture({}),
            "projection": {"_target_": "torch.nn.Identity"},
            "pooling": {"_target_": "vse_gpo.pooling.First"},
        }

    prepare_captions = {"_target_": "vse_gpo.data.captions.PrepareCaptions", "tokenizer": tokenizer}
    model = VSE(
        image_encoder=encoder(images),
        text_encoder=encoder(texts),
        prepare_images=build(prepare_images),
        prepare_captions=build(prepare_captions),
        logits=PairLogits(**logits),
    )
    model.settings = {
        "_target_": "vse_gpo.model.VSE",
        "image_encoder": settings(images),
        "text_encoder": settings(texts),
        "prepare_images": prepare_images,
        "prepare_captions": prepare_captions,
        "logits": {"_target_": "vse_gpo.losses.PairLogits"},
    }
    check_values(model.state_dict())
    return model.eval()


@quietly()
def check_dual(folder: Path) -> None:
    """Refuse a folder whose small files are not those of a dual encoder, before its weights are fetched.

    Raises:
        VSEError: see ``load_dual``.
    """
    folder = inner_folder(folder)
    dual_config(folder)
    image_processor(folder)
    tokenizer_in(folder)


def is_foreign(folder: Path) -> bool:
    """Whether a folder says that it holds a model of Hugging Face or sentence-transformers."""
    return (folder / CONFIG).is_file() or (folder / MODULES).is_file()


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VSEError(f"{path}: cannot be read ({first_line(error)}); fetch it again") from error


def inner_folder(folder: Path) -> Path:
    """The folder of the only module of a sentence-transformers model; any other folder itself."""
    if not (folder / MODULES).is_file():
        return folder
    modules = _read(folder / MODULES)
    try:
        kept = [one["path"] for one in modules if str(one["type"]).rpartition(".")[2] != "Normalize"]
        names = [str(one["type"]).rpartition(".")[2] for one in modules]
    except (TypeError, KeyError, AttributeError) as error:
        raise VSEError(f"{folder / MODULES}: not a list of modules; {EXPECTED}") from error
    if len(kept) != 1:
        raise VSEError(f"{folder}: sentence-transformers' {', '.join(names)}; {EXPECTED} in one module")
    place = (folder / str(kept[0])).resolve()
    if not place.is_relative_to(folder.resolve()):
        raise VSEError(f"{folder / MODULES}: {kept[0]} points outside {folder}")
    return place


def dual_config(folder: Path) -> PreTrainedConfig:
    """The config of a dual encoder, without anything that could run code.

    Raises:
        VSEError: if it is of another kind of model, which is named.
    """
    found = _read(folder / CONFIG)
    kind = found.get("model_type") if isinstance(found, dict) else None
    if (folder / ADAPTER).is_file():
        raise VSEError(f"{folder}: only an adapter of another model; merge it into that model and save the whole")
    try:
        config = safe_config(found)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(found, dict) and "auto_map" in found:
            raise VSEError(f"{folder}: a {kind} needs Python code that comes with it, which is never run") from error
        raise VSEError(f"{folder}: not a model that transformers knows ({first_line(error)}); {EXPECTED}") from error
    if dual_class(config) is None:
        raise VSEError(f"{folder}: holds a {kind} ({', '.join(found.get('architectures') or ['?'])}), {EXPECTED}")
    return config


def dual_network(folder: Path, config: PreTrainedConfig) -> PreTrainedModel:
    """The whole network in float32.

    Raises:
        VSEError: if the folder has no weights, or not those of the config.
    """
    family: Any = dual_class(config)
    try:
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in family(config).parameters())
        held = sum(file.stat().st_size for file in folder.iterdir() if file.suffix in (".safetensors", ".bin"))
        if size > held:  # before any memory is taken: a config may ask for any size
            raise ValueError(f"the config has {size:,} weights, the files hold {held:,} bytes")
        network, info = family.from_pretrained(
            folder, config=config, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise VSEError(f"{folder}: no weights of its config ({first_line(error)}); fetch it again") from error
    for what in ("missing", "unexpected"):
        if names := sorted(name for name in info[f"{what}_keys"] if not name.endswith(ALLOWED)):
            raise VSEError(f"{folder}: {len(names)} weights are {what}, first {names[0]}; fetch it again")
    loaded: PreTrainedModel = network
    return loaded


def image_processor(folder: Path) -> Any:
    """The image processor in a folder.

    Raises:
        VSEError: if there is none.
    """
    try:
        return AutoImageProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        raise VSEError(
            f"{folder}: no image processor ({first_line(error)}), expected preprocessor_config.json or "
            "processor_config.json as its own program writes it"
        ) from error


def tokenizer_in(folder: Path) -> Any:
    """The tokeniser in a folder.

    Raises:
        VSEError: if there is none.
    """
    expected = "expected tokenizer.json or the files of its own program"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # each kind of tokeniser raises its own
        raise VSEError(f"{folder}: no tokeniser ({first_line(error)}), {expected}") from error
    if tokenizer.get_vocab().keys() <= set(tokenizer.all_special_tokens):  # as transformers does without a file
        raise VSEError(f"{folder}: no tokeniser, {expected}")
    return tokenizer


def logits_of(network: PreTrainedModel) -> dict[str, float]:
    """Logit scale and bias of a dual encoder; a temperature is the inverse of the scale."""
    own = dict(network.named_parameters(recurse=False))
    found = {}
    if "logit_scale" in own:
        found["log_scale"] = float(own["logit_scale"].detach())
    elif "temperature" in own:
        found["log_scale"] = -float(own["temperature"].detach().log())
    if "logit_bias" in own:
        found["bias"] = float(own["logit_bias"].detach())
    return found


def mask_token_of(tokenizer: Any) -> str:
    """A token that stands for a masked word in training: CLIP has none and reads only lower case, so that M is free."""
    free = "M" if "M" in tokenizer.get_vocab() else tokenizer.unk_token
    return str(tokenizer.mask_token or free or tokenizer.eos_token)


def ignores_lower_case(tokenizer: Any) -> bool:
    """Whether the files ask for lower case and the tokeniser does not do it: SigLIP 2's, read by a Gemma tokeniser."""
    asked = bool(tokenizer.init_kwargs.get("do_lower_case", False))
    upper, lower = (tokenizer(text)["input_ids"] for text in ("A Dog", "a dog"))
    return asked and upper != lower

"""Checkpoints: written so that a crash or a full disk never costs the older one."""

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor
from transformers import BertConfig

from vse_gpo.errors import VSEError, first_line
from vse_gpo.model import VSE, build_model
from vse_gpo.released import bert_names, bigru_names, grid_head_names, region_names
from vse_gpo.writing import whole_file

BERT = "bert-base-uncased"  # what the released models read captions with


class AtomicCheckpoints(TorchCheckpointIO):
    """Takes the place of the old file only when the new one is whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with whole_file(Path(path)) as file:
            torch.save(checkpoint, file)


def steps_taken(path: str, max_epochs: int | None) -> int:
    """How many steps a checkpoint's training has taken; stops before any work if it cannot be resumed from.

    Args:
        path: of the checkpoint.
        max_epochs: of the run that is to go on from it; None or −1 sets no end.

    Raises:
        VSEError: if it is missing, damaged, holds weights alone, or was saved later than the run is to end.
    """
    expected = "expected a checkpoint such as runs/…/checkpoints/last.ckpt"
    if not Path(path).is_file():
        raise VSEError(f"resume={path}: no such file, {expected}")
    checkpoint = read_pickle(path, [])
    if not isinstance(checkpoint, dict) or "optimizer_states" not in checkpoint:
        raise VSEError(f"resume={path}: holds no state of a training, {expected}")
    epoch: int = checkpoint["epoch"]
    if max_epochs is not None and 0 <= max_epochs <= epoch:
        raise VSEError(
            f"resume={path}: saved in epoch {epoch}, counted from 0, and trainer.max_epochs={max_epochs} ends the run "
            "before it; set trainer.max_epochs to go on"
        )
    steps: int = checkpoint["global_step"]
    return steps


# models out of checkpoints


def load_model(source: str | Path, *, tokenizer: str | None = None, vocabulary: str | None = None) -> VSE:
    """A model in eval mode from whatever holds one: a training's checkpoint, a released .pth file, a folder or hub id.

    Args:
        source: a file with the suffix .ckpt or .pth, a folder that ``save_pretrained`` wrote, or a hub id.
        tokenizer, vocabulary: see ``load_released``.

    Raises:
        VSEError: if the source holds no model.
    """
    suffix = Path(source).suffix
    if suffix == ".ckpt":
        return load_checkpoint(source)
    if suffix in (".pth", ".tar"):
        return load_released(source, tokenizer=tokenizer or BERT, vocabulary=vocabulary)
    return VSE.from_pretrained(source)


def load_checkpoint(path: str | Path) -> VSE:
    """The model in a training's checkpoint.

    Raises:
        VSEError: if the file is none.
    """
    checkpoint = read_pickle(path, [])
    try:
        settings, weights = checkpoint["settings"]["model"], checkpoint["state_dict"]
    except (KeyError, TypeError) as error:
        raise VSEError(f"{path}: no checkpoint of a training, expected runs/…/checkpoints/best.ckpt") from error
    return build_model(settings, model_weights(weights))


def model_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's share of a training's weights, which may hold a loss's too, under the model's own names."""
    return {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}


def read_pickle(path: str | Path, allowed: list[Any]) -> Any:
    """What torch.save wrote, without running code.

    Args:
        path: of the file.
        allowed: classes that it may hold beside tensors and plain containers.

    Raises:
        VSEError: if the file is missing, damaged or holds anything else.
    """
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise VSEError(f"{path}: {(error.strerror or str(error)).lower()}, expected a checkpoint") from error
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        found = f"it holds {name[1]}" if name else "it is damaged or no checkpoint"
        raise VSEError(f"{path}: refused, {found}; expected tensors and plain containers alone") from error
    except (RuntimeError, EOFError, KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise VSEError(f"{path}: damaged or no checkpoint ({first_line(error)}); fetch it again") from error


def load_released(
    path: str | Path, *, tokenizer: str = BERT, vocabulary: str | None = None, image_size: int = 512
) -> VSE:
    """The model in a ``model_best.pth`` that VSE∞'s authors released.

    Args:
        path: {'model': [image encoder's weights, text encoder's weights], …}, with or without ``module.`` before names.
        tokenizer: of a BERT model: a name on the Hugging Face hub or a folder.
        vocabulary: SCAN vocabulary file of a BiGRU model.
        image_size: side of the pictures of a grid model; the published ones use 512.

    Raises:
        VSEError: if the file holds anything but weights and options, or weights of another model.
    """
    checkpoint = read_pickle(path, [argparse.Namespace])
    try:
        image, text = ({n.removeprefix("module."): w for n, w in state.items()} for state in checkpoint["model"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VSEError(f"{path}: no released model, expected {{'model': [image weights, text weights], …}}") from error
    image_encoder, prepare_images, image_weights = _released_image_encoder(image, image_size)
    text_encoder, prepare_captions, text_weights = _released_text_encoder(text, tokenizer, vocabulary)
    settings = {
        "_target_": "vse_gpo.model.VSE",
        "image_encoder": image_encoder,
        "text_encoder": text_encoder,
        "prepare_images": prepare_images,
        "prepare_captions": prepare_captions,
    }
    weights = {f"image_encoder.{name}": value for name, value in image_weights.items()}
    weights |= {f"text_encoder.{name}": value for name, value in text_weights.items()}
    try:
        return build_model(settings, weights)
    except VSEError as error:
        raise VSEError(f"{path}: {error}") from error


Released = tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]  # settings of encoder and preparation, weights


def _released_image_encoder(released: Mapping[str, Tensor], image_size: int) -> Released:
    if "fc.weight" in released:
        embedding, width = released["fc.weight"].shape
        encoder = _encoder(
            {"_target_": "vse_gpo.backbones.images.Regions", "width": width},
            {"_target_": "vse_gpo.encoder.ResidualProjection", "in_features": width, "out_features": embedding},
            {"_target_": "vse_gpo.encoder.DropRegions"},
        )
        return encoder, {"_target_": "vse_gpo.data.regions.PrepareRegions"}, region_names(released)
    prefix = "backbone.resnet."  # the trunk is there a second time, as backbone.base and backbone.top
    trunk = {name.removeprefix(prefix): value for name, value in released.items() if name.startswith(prefix)}
    head = {n.removeprefix("image_encoder."): w for n, w in released.items() if n.startswith("image_encoder.")}
    if not trunk or "fc.weight" not in head:
        raise VSEError(f"weights of no released image encoder, first {next(iter(released), 'none')}")
    if trunk["layer1.0.conv2.weight"].shape[0] == 256:
        backbone = {
            "_target_": "vse_gpo.backbones.images.timm_grid",
            "name": "resnext101_32x8d.fb_wsl_ig1b_ft_in1k",
            "pretrained": False,
        }
    elif "layer3.35.conv1.weight" in trunk:
        backbone = {"_target_": "vse_gpo.backbones.images.imagenet_resnet152_grid", "released_strides": True}
        backbone |= {"pretrained": False}
    else:
        backbone = {"_target_": "vse_gpo.backbones.images.butd_grid"}
    embedding, width = head["fc.weight"].shape
    encoder = _encoder(
        backbone,
        {"_target_": "vse_gpo.encoder.linear_projection", "in_features": width, "out_features": embedding},
        {"_target_": "vse_gpo.encoder.DropCells"},
    )
    weights = grid_head_names(head) | {
        f"backbone.trunk.{name}": value for name, value in trunk.items() if not name.startswith("fc.")
    }
    return encoder, {"_target_": "vse_gpo.data.images.PrepareImages", "size": image_size}, weights


def _released_text_encoder(released: Mapping[str, Tensor], tokenizer: str, vocabulary: str | None) -> Released:
    prepare: dict[str, Any] = {"_target_": "vse_gpo.data.captions.PrepareCaptions"}
    if "embed.weight" in released:
        if vocabulary is None:
            raise VSEError("a BiGRU model needs its vocabulary; set vocabulary= to coco_precomp_vocab.json or its like")
        words, word_width = released["embed.weight"].shape
        width = released["rnn.weight_hh_l0"].shape[1]
        backbone = {"_target_": "vse_gpo.backbones.texts.BiGRU", "vocabulary_size": words}
        backbone |= {"width": width, "word_width": word_width}
        tokenizer_of_words = {"_target_": "vse_gpo.data.captions.TreebankVocabulary", "path": vocabulary, "size": words}
        prepare["tokenizer"] = tokenizer_of_words
        return _encoder(backbone, {"_target_": "torch.nn.Identity"}, None), prepare, bigru_names(released)
    if "bert.embeddings.word_embeddings.weight" not in released:
        raise VSEError(f"weights of no released text encoder, first {next(iter(released), 'none')}")
    words, width = released["bert.embeddings.word_embeddings.weight"].shape
    layers = {name.split(".")[3] for name in released if name.startswith("bert.encoder.layer.")}
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=len(layers),
        num_attention_heads=width // 64,
        intermediate_size=released["bert.encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=released["bert.embeddings.position_embeddings.weight"].shape[0],
    )
    word_pieces = {"_target_": "vse_gpo.data.captions.WordPieces", "pretrained": tokenizer, "size": words}
    prepare["tokenizer"] = word_pieces
    encoder = _encoder(
        {"_target_": "vse_gpo.backbones.texts.bert_of", "config": config.to_dict(), "groups": 4},
        {
            "_target_": "torch.nn.Linear",
            "in_features": width,
            "out_features": released["linear.weight"].shape[0],
        },
        None,
    )
    return encoder, prepare, bert_names(released)


def _encoder(
    backbone: dict[str, Any], projection: dict[str, Any], augmentation: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "_target_": "vse_gpo.encoder.Encoder",
        "backbone": backbone,
        "size_augmentation": augmentation,
        "projection": projection,
        "pooling": {"_target_": "vse_gpo.pooling.GPO"},
    }

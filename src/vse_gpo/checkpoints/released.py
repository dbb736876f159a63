"""Models that VSE∞'s authors released: ``model_best.pth``."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import BertConfig

from vse_gpo.checkpoints.pickles import read_pickle
from vse_gpo.errors import VSEError
from vse_gpo.model import VSE, build_model

BERT = "bert-base-uncased"  # tokeniser of the released models


def load_released(
    path: str | Path, *, tokenizer: str = BERT, vocabulary: str | None = None, image_size: int = 512
) -> VSE:
    """Load a ``model_best.pth`` that VSE∞'s authors released.

    Args:
        path: {'model': [image encoder's weights, text encoder's weights], …}, with or without ``module.`` before names.
        tokenizer: tokeniser of a BERT model: a hub id or a folder.
        vocabulary: SCAN vocabulary file of a BiGRU model.
        image_size: side of the images of a grid model; the published ones use 512.

    Raises:
        VSEError: if the file holds anything but weights and options, or weights of another model.
    """
    checkpoint = read_pickle(path, [argparse.Namespace])
    return released_model(checkpoint, path, tokenizer=tokenizer, vocabulary=vocabulary, image_size=image_size)


def released_model(
    checkpoint: Any, path: str | Path, *, tokenizer: str, vocabulary: str | None, image_size: int = 512
) -> VSE:
    """The model in what a released file holds.

    Args:
        checkpoint: what was read from the file.
        path: of the file, for messages.
        tokenizer, vocabulary, image_size: see ``load_released``.

    Raises:
        VSEError: if it holds weights of another model.
    """
    image, text = _states(checkpoint, path)
    weights = _renamed(image, text)
    image_encoder, prepare_images = _released_image_encoder(image, image_size)
    text_encoder, prepare_captions = _released_text_encoder(text, tokenizer, vocabulary)
    settings = {
        "_target_": "vse_gpo.model.VSE",
        "image_encoder": image_encoder,
        "text_encoder": text_encoder,
        "prepare_images": prepare_images,
        "prepare_captions": prepare_captions,
    }
    try:
        return build_model(settings, weights)
    except VSEError as error:
        raise VSEError(f"{path}: {error}") from error


def released_weights(checkpoint: Any, path: str | Path) -> dict[str, Tensor]:
    """The weights in what a released file holds, under our names; a BiGRU's need no vocabulary.

    Args:
        checkpoint, path: see ``released_model``.

    Raises:
        VSEError: if it holds weights of another model.
    """
    return _renamed(*_states(checkpoint, path))


State = dict[str, Tensor]
Settings = tuple[dict[str, Any], dict[str, Any]]  # of an encoder and its preparation


def _states(checkpoint: Any, path: str | Path) -> tuple[State, State]:
    """Weights of the image encoder and of the text encoder under the released program's names."""
    try:
        image, text = ({n.removeprefix("module."): w for n, w in state.items()} for state in checkpoint["model"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VSEError(
            f"{path}: not a released model, expected {{'model': [image weights, text weights], …}}"
        ) from error
    if "fc.weight" not in image and not (_trunk(image) and "image_encoder.fc.weight" in image):
        raise VSEError(f"{path}: not the weights of a released image encoder, first {next(iter(image), 'none')}")
    if "embed.weight" not in text and "bert.embeddings.word_embeddings.weight" not in text:
        raise VSEError(f"{path}: not the weights of a released text encoder, first {next(iter(text), 'none')}")
    return image, text


def _trunk(image: State) -> State:
    """The trunk of a grid encoder; a file holds it a second time, as backbone.base and backbone.top."""
    prefix = "backbone.resnet."
    return {name.removeprefix(prefix): value for name, value in image.items() if name.startswith(prefix)}


def _renamed(image: State, text: State) -> State:
    """The weights of both encoders under our names."""
    image_weights = region_names(image) if "fc.weight" in image else grid_names(image)
    text_weights = bigru_names(text) if "embed.weight" in text else bert_names(text)
    return {f"image_encoder.{name}": value for name, value in image_weights.items()} | {
        f"text_encoder.{name}": value for name, value in text_weights.items()
    }


def _released_image_encoder(released: State, image_size: int) -> Settings:
    if "fc.weight" in released:
        embedding, width = released["fc.weight"].shape
        encoder = _encoder(
            {"_target_": "vse_gpo.backbones.images.Regions", "width": width},
            {"_target_": "vse_gpo.encoder.ResidualProjection", "in_features": width, "out_features": embedding},
            {"_target_": "vse_gpo.encoder.DropRegions"},
        )
        return encoder, {"_target_": "vse_gpo.data.regions.PrepareRegions"}
    trunk = _trunk(released)
    if trunk["layer1.0.conv2.weight"].shape[0] == 256:
        backbone = {
            "_target_": "vse_gpo.backbones.timm_trunks.timm_grid",
            "name": "resnext101_32x8d.fb_wsl_ig1b_ft_in1k",
            "pretrained": False,
        }
    elif "layer3.35.conv1.weight" in trunk:
        backbone = {"_target_": "vse_gpo.backbones.images.imagenet_resnet_grid", "depth": 152}
        backbone |= {"pretrained": False, "released_strides": True}
    else:
        backbone = {"_target_": "vse_gpo.backbones.images.butd_grid"}
    embedding, width = released["image_encoder.fc.weight"].shape
    encoder = _encoder(
        backbone,
        {"_target_": "vse_gpo.encoder.linear_projection", "in_features": width, "out_features": embedding},
        {"_target_": "vse_gpo.encoder.DropCells"},
    )
    return encoder, {"_target_": "vse_gpo.data.images.PrepareImages", "size": image_size}


def _released_text_encoder(released: State, tokenizer: str, vocabulary: str | None) -> Settings:
    prepare: dict[str, Any] = {"_target_": "vse_gpo.data.captions.PrepareCaptions"}
    if "embed.weight" in released:
        if vocabulary is None:
            raise VSEError("a BiGRU model needs its vocabulary; set vocabulary= to coco_precomp_vocab.json or its like")
        words, word_width = released["embed.weight"].shape
        width = released["rnn.weight_hh_l0"].shape[1]
        backbone = {"_target_": "vse_gpo.backbones.bigru.BiGRU", "vocabulary_size": words}
        backbone |= {"width": width, "word_width": word_width}
        tokenizer_of_words = {"_target_": "vse_gpo.data.captions.TreebankVocabulary", "path": vocabulary, "size": words}
        prepare["tokenizer"] = tokenizer_of_words
        return _encoder(backbone, {"_target_": "torch.nn.Identity"}, None), prepare
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
    word_pieces = {"_target_": "vse_gpo.data.word_pieces.WordPieces", "pretrained": tokenizer, "size": words}
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
    return encoder, prepare


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


# names of weights: the released program's → ours


def region_names(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released region encoder's weights under our names, without the second BatchNorm, which it never uses."""
    return _rename(
        released,
        {
            "mlp.layers.0.": "projection.mlp.0.",
            "mlp.bns.0.": "projection.mlp.1.",
            "mlp.layers.1.": "projection.mlp.3.",
            "mlp.bns.1.": None,
            "fc.": "projection.fc.",
            "gpool.": "pooling.",
        },
    )


def grid_names(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released grid encoder's weights under our names, without the trunk's second copy and its classifier."""
    return _rename(
        released,
        {
            "backbone.resnet.fc.": None,
            "backbone.resnet.": "backbone.trunk.",
            "backbone.base.": None,
            "backbone.top.": None,
            "image_encoder.fc.": "projection.",
            "image_encoder.gpool.": "pooling.",
        },
    )


def bert_names(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released BERT text encoder's weights under our names; without BERT's pooler and position ids."""
    return _rename(
        released,
        {
            "bert.pooler.": None,
            "bert.embeddings.position_ids": None,
            "bert.": "backbone.network.",
            "linear.": "projection.",
            "gpool.": "pooling.",
        },
    )


def bigru_names(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released BiGRU text encoder's weights under our names."""
    return _rename(released, {"embed.": "backbone.embed.", "rnn.": "backbone.rnn.", "gpool.": "pooling."})


def _rename(released: Mapping[str, Tensor], prefixes: Mapping[str, str | None]) -> dict[str, Tensor]:
    """Replace the first prefix that fits each name; None leaves the weight out.

    Raises:
        VSEError: if no prefix fits a name.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in released.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix is None:
            raise VSEError(f"weight {name} belongs to no released encoder of this kind, expected {', '.join(prefixes)}")
        replacement = prefixes[prefix]
        if replacement is not None:
            renamed[replacement + name.removeprefix(prefix)] = value
    return renamed

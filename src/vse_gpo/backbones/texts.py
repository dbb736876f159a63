"""Text backbones: tokens → Features, one feature per token. CLIP's is in ``clip.py``."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from vse_gpo.backbones.attention import take_masks_as_given
from vse_gpo.backbones.backbone import Backbone, Layers
from vse_gpo.backbones.hugging_face import (
    check_length,
    checkpoint_transformer,
    config_of,
    network_of,
    transformer_layers,
    without_gaps,
)
from vse_gpo.backbones.pretrained import check_width
from vse_gpo.batch import Features, Tokens, hand_over, valid_items
from vse_gpo.errors import VSEError
from vse_gpo.storage.hub import load_pretrained

SETTING = "text.pretrained"
REMEDY = "name a Hugging Face model or a folder with config.json and weights"


class Bert(Backbone):
    """A Hugging Face encoder of BERT's kind; every word piece gives one feature, [CLS] and [SEP] included.

    On a CPU captions of similar length run together, so that little time is spent on padding. On a GPU, whose time is
    short against that of starting its kernels, the batch runs as a whole.

    Args:
        network: gives word vectors by ``get_input_embeddings``, takes ``inputs_embeds`` and ``attention_mask`` and
            returns ``last_hidden_state``. It never sees token ids, so it counts positions from the first token,
            whatever its own padding id.
        groups: number of runs that a batch is split into by length on a CPU; 1 keeps it whole.
    """

    def __init__(self, network: PreTrainedModel, groups: int = 1) -> None:
        super().__init__()
        take_masks_as_given(network)
        self.network = network
        self.groups = groups

    def forward(self, tokens: Tokens) -> Features:
        check_length(tokens, self.network)
        words = self.network.get_input_embeddings()(tokens.ids)
        device = tokens.ids.device
        groups = self.groups if device.type == "cpu" else 1
        if groups == 1 or torch.compiler.is_exporting():  # an exported graph does not know the lengths
            items = tokens.ids.shape[1]
            return Features(self._run(words, valid_items(tokens.lengths, items, device).long(), items), tokens.lengths)
        lengths, order = tokens.lengths.cpu().sort(descending=True)
        words, mask = words[hand_over(order, device)], valid_items(lengths, int(lengths[0]), device).long()
        parts = zip(words.chunk(groups), mask.chunk(groups), lengths.chunk(groups), strict=True)
        runs = [self._run(own, seen, int(longest[0])) for own, seen, longest in parts]
        padded = [nn.functional.pad(run, (0, 0, 0, runs[0].shape[1] - run.shape[1])) for run in runs]
        return Features(torch.cat(padded)[hand_over(order.argsort(), device)], tokens.lengths)

    def layers(self, *, coarse: bool = False) -> Layers:
        return transformer_layers(self.network)

    def compilable(self) -> nn.Module:
        return self.network

    def enable_checkpointing(self, setting: str) -> None:
        checkpoint_transformer(self.network, setting)

    def architecture(self, settings: dict[str, Any]) -> dict[str, Any]:
        config = config_of(self.network)
        return {"_target_": "vse_gpo.backbones.texts.bert_of", "config": config, "groups": self.groups}

    def _run(self, words: torch.Tensor, mask: torch.Tensor, longest: int) -> torch.Tensor:
        return self.network(inputs_embeds=words[:, :longest], attention_mask=mask[:, :longest]).last_hidden_state


def load_bert(pretrained: str, *, width: int | None = None, random_weights: bool = False, groups: int = 1) -> Bert:
    """Load any Hugging Face text encoder, always in float32: BERT, RoBERTa, MPNet, DeBERTa, ModernBERT, …

    Args:
        pretrained: a model's hub id, or a folder that holds one.
        width: required width of the features; None accepts any.
        random_weights: load only the architecture.
        groups: see ``Bert``.

    Raises:
        VSEError: if neither a folder nor the hub has the model, weights are missing, it is not a text encoder or its
            features have another width.
    """

    def load(name: str) -> PreTrainedModel:
        if random_weights:
            return AutoModel.from_config(AutoConfig.from_pretrained(name))
        return without_gaps(*AutoModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True))

    network = load_pretrained(load, pretrained, SETTING, expected="text encoder", remedy=REMEDY)
    config = network.config
    if config.is_encoder_decoder or config.get_text_config() is not config:
        raise VSEError(f"{SETTING}={pretrained}: {config.model_type} is not a text encoder; for CLIP set text=clip")
    check_width(pretrained, config.hidden_size, width, "text.width")
    return _bert(network, groups)


def bert_of(config: Mapping[str, Any], *, groups: int = 1) -> Bert:
    """Build a text encoder with random weights from a Hugging Face config.

    Args:
        config: a Hugging Face config, ``model_type`` included.
        groups: see ``Bert``.

    Raises:
        VSEError: if the config does not describe a network.
    """
    return _bert(network_of(config), groups)


def _bert(network: PreTrainedModel, groups: int) -> Bert:
    """Remove BERT's own pooler, which the embedding never uses: unused parameters would stop DDP."""
    if getattr(network, "pooler", None) is not None:
        network.add_module("pooler", None)
    return Bert(network.train(), groups)

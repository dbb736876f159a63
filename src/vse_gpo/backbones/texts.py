"""Text backbones: tokens → Features, one feature per token."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import AutoConfig, AutoModel, PreTrainedModel

from vse_gpo.batch import Features, Tokens
from vse_gpo.errors import VSEError
from vse_gpo.hub import check_pretrained


class Bert(nn.Module):
    """A Hugging Face encoder; every word piece gives one feature, [CLS] and [SEP] included.

    Captions of similar length run together, so that little time goes into padding.

    Args:
        network: gives its word vectors by ``get_input_embeddings``, takes ``inputs_embeds`` and ``attention_mask`` and
            returns ``last_hidden_state``.
        groups: into how many runs a batch is split by length; 1 keeps it whole.
    """

    def __init__(self, network: PreTrainedModel, groups: int = 1) -> None:
        super().__init__()
        self.network = network
        self.groups = groups

    def forward(self, tokens: Tokens) -> Features:
        order = tokens.lengths.argsort(descending=True)
        words = self.network.get_input_embeddings()(tokens.ids)
        mask = (tokens.ids != 0).long()
        runs = [self._run(words[rows], mask[rows], int(tokens.lengths[rows[0]])) for rows in order.chunk(self.groups)]
        items = runs[0].shape[1]
        padded = [nn.functional.pad(run, (0, 0, 0, items - run.shape[1])) for run in runs]
        return Features(torch.cat(padded)[order.argsort()], tokens.lengths)

    def architecture(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Settings that build the same network without any file, from those that built this one."""
        config = self.network.config.to_dict()
        return {"_target_": "vse_gpo.backbones.texts.bert_of", "config": config, "groups": self.groups}

    def _run(self, words: torch.Tensor, mask: torch.Tensor, longest: int) -> torch.Tensor:
        return self.network(inputs_embeds=words[:, :longest], attention_mask=mask[:, :longest]).last_hidden_state


def load_bert(pretrained: str, *, random_weights: bool = False, groups: int = 1) -> Bert:
    """Any Hugging Face text encoder, in float32 whatever the file holds.

    Args:
        pretrained: a model's name on the hub, or a folder that holds one.
        random_weights: take the architecture alone.
        groups: see ``Bert``.

    Raises:
        VSEError: if neither a folder nor the hub knows the name.
    """
    check_pretrained(pretrained, "text.pretrained")
    try:
        if random_weights:
            network: PreTrainedModel = AutoModel.from_config(AutoConfig.from_pretrained(pretrained))
        else:
            network = AutoModel.from_pretrained(pretrained, dtype=torch.float32)
    except (OSError, ValueError) as error:
        where = "the folder" if Path(pretrained).is_dir() else "neither a folder nor reachable on the hub:"
        raise VSEError(
            f"text.pretrained={pretrained}: {where} gives no text encoder ({str(error).strip().splitlines()[0]}); "
            "name a Hugging Face model or a folder with config.json and weights"
        ) from error
    _drop_unused_pooler(network)
    return Bert(network.train(), groups)


def bert_of(config: Mapping[str, Any], *, groups: int = 1) -> Bert:
    """A text encoder of an architecture, with random weights.

    Args:
        config: as Hugging Face writes it, ``model_type`` included.
        groups: see ``Bert``.

    Raises:
        VSEError: if the config describes no text encoder.
    """
    try:
        network: PreTrainedModel = AutoModel.from_config(AutoConfig.for_model(**config))
    except (TypeError, ValueError, KeyError) as error:
        raise VSEError(f"no text encoder: {str(error).splitlines()[0]}; expected a config of Hugging Face") from error
    _drop_unused_pooler(network)
    return Bert(network.train(), groups)


def _drop_unused_pooler(network: PreTrainedModel) -> None:
    """BERT's own pooler never reaches the embedding; parameters without a gradient would stop DDP."""
    if getattr(network, "pooler", None) is not None:
        network.add_module("pooler", None)


class BiGRU(nn.Module):
    """Word vectors and a one-layer bidirectional GRU whose directions are averaged (Faghri et al. 2018).

    Args:
        vocabulary_size: number of words, <mask> included.
        width: of the features.
        word_width: of the word vectors.
        bidirectional: False reads forwards alone, as VSE++ and VSRN do.
    """

    def __init__(
        self, *, vocabulary_size: int, width: int = 1024, word_width: int = 300, bidirectional: bool = True
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary_size, word_width)
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        self.rnn = nn.GRU(word_width, width, batch_first=True, bidirectional=bidirectional)

    def architecture(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings that built this one: they need no file."""
        return settings

    def forward(self, tokens: Tokens) -> Features:
        packed = pack_padded_sequence(
            self.embed(tokens.ids), tokens.lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        hidden, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=tokens.ids.shape[1])
        return Features(hidden.unflatten(-1, (-1, self.rnn.hidden_size)).mean(-2), tokens.lengths)

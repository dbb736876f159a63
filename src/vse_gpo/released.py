"""Names of weights: the released program's under ours."""

from collections.abc import Mapping

from torch import Tensor

from vse_gpo.errors import VSEError


def region_names(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released region encoder's weights under our names; the second BatchNorm, unused by its forward, stays out."""
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


def grid_head_names(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released grid encoder's head under our names."""
    return _rename(released, {"fc.": "projection.", "gpool.": "pooling."})


def bert_names(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released BERT text encoder's weights under our names; BERT's pooler and position ids stay out."""
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

"""Poolings that relate items to each other or weight them by content: self-attention, seq2seq, GCN."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from vse_gpo.batch import hand_over, valid_items
from vse_gpo.errors import VSEError
from vse_gpo.gru import run_gru
from vse_gpo.pooling.sets import Pooling, apply_pooling, padding

NORM_AXES = {"items": 2, "channels": 1}  # of (batch, items, dim)


class SelfAttention(Pooling):
    """Weighted mean of the items; a small network scores each item, a softmax turns the scores into weights.

    The structured self-attention of Lin et al. 2017 (eq. 5) with one hop, as PVSE (Song and Soleymani 2019) pools
    regions and words.

    Args:
        width: feature width.
        d_hidden: width of the scorer's hidden layer.
    """

    def __init__(self, width: int, d_hidden: int = 512) -> None:
        super().__init__()
        self.scorer = nn.Sequential(
            nn.Linear(width, d_hidden, bias=False), nn.Tanh(), nn.Linear(d_hidden, 1, bias=False)
        )

    def pool(
        self, features: Float[Tensor, "batch items dim"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        padded = padding(features, lengths)
        items = features.masked_fill(padded, 0.0)
        weights = self.scorer(items).masked_fill(padded, -torch.inf).softmax(1)
        return (items * weights).sum(1)


class Seq2Seq(Pooling):
    """Final state of a GRU that reads the items in order; with two directions, the mean of both final states.

    VSRN (Li et al. 2019, section 3.2) pools regions like this, with one direction. The order matters: detectors list
    regions by falling confidence.

    Args:
        width: width of the features and of the state.
        bidirectional: also read backwards.
    """

    def __init__(self, width: int, *, bidirectional: bool = True) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=bidirectional)

    def pool_sizes(
        self, features: Float[Tensor, "batch items dim"], sizes: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        states = run_gru(self.gru, features, sizes)
        last = torch.arange(features.shape[0], device=features.device), hand_over(sizes - 1, features.device)
        return torch.cat([states[last][:, :1], states[:, 0, 1:]], dim=1).mean(1)  # backwards ends at item 0


class GCN(Pooling):
    """Lets the items of a set exchange information, then pools them (VSRN: Li et al. 2019, section 3.1).

    The values are scaled to unit length before the first layer and after the last: each item's, as the paper has it, or
    each channel's over the items, as VSRN's program does.

    Args:
        width: feature width.
        pooling: pools the items after the last layer: ``Mean``, or ``Seq2Seq`` as in VSRN.
        layers: number of graph convolutions.
        norm_over: ``items`` or ``channels``, what has unit length.
        first_norm: scale before the first layer too; VSRN's program does not for Flickr30K.
        batch_norm: a BatchNorm of the pooled features, as VSRN's program has for Flickr30K.

    Raises:
        VSEError: if ``norm_over`` is something else.
    """

    def __init__(
        self,
        width: int,
        *,
        pooling: nn.Module,
        layers: int = 4,
        norm_over: str = "items",
        first_norm: bool = True,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if norm_over not in NORM_AXES:
            raise VSEError(f"norm_over={norm_over}, expected one of {', '.join(NORM_AXES)}")
        self.layers = nn.ModuleList(GraphConvolution(width) for _ in range(layers))
        self.pooling = pooling
        self.norm_axis = NORM_AXES[norm_over]
        self.first_norm = first_norm
        self.batch_norm = nn.BatchNorm1d(width) if batch_norm else nn.Identity()

    def pool_sizes(
        self, features: Float[Tensor, "batch items dim"], sizes: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch dim"]:
        lengths, padded = hand_over(sizes, features.device), padding(features, sizes)
        real = None
        if not torch.compiler.is_exporting():
            real = hand_over(valid_items(sizes, features.shape[1]).flatten().nonzero().squeeze(1), features.device)
        items = features.masked_fill(padded, 0.0)
        if self.first_norm:
            items = normalize(items, dim=self.norm_axis)
        for layer in self.layers:
            items = layer(items, lengths, padded, real)
        pooled: Tensor = self.batch_norm(apply_pooling(self.pooling, normalize(items, dim=self.norm_axis), sizes))
        return pooled


class GraphConvolution(nn.Module):
    """A residual layer on the graph that connects all items of a set by the affinity of their embeddings.

    Its BatchNorm starts at zero, so a new layer changes nothing, and it sees only real items, no padding.

    Args:
        width: item width.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.message = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)
        nn.init.zeros_(self.norm.weight)

    def forward(
        self,
        items: Float[Tensor, "batch items dim"],
        lengths: Int[Tensor, " batch"],
        padded: Bool[Tensor, "batch items 1"],
        real: Int[Tensor, " real"] | None,
    ) -> Float[Tensor, "batch items dim"]:
        """The items after one exchange.

        Args:
            items: zero where they are padding.
            lengths: on the items' device.
            padded: True where a row of the items is padding.
            real: rows of the real items, with those of all sets numbered through; None in an export.
        """
        affinity = self.query(items) @ self.key(items).transpose(1, 2) / lengths[:, None, None]
        received = affinity @ self.message(items).masked_fill(padded, 0.0)
        changes = self.output(received)
        if real is None:  # in eval mode, BatchNorm treats items separately
            return items + self.norm(changes.transpose(1, 2)).transpose(1, 2).masked_fill(padded, 0.0)
        rows = changes.flatten(0, 1)
        true_changes = self.norm(rows.index_select(0, real))
        return items + torch.zeros_like(rows).index_copy(0, real, true_changes).view_as(items)

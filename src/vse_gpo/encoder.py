"""The encoder of one modality: backbone → size augmentation → projection → pooling → unit embedding."""

from contextlib import nullcontext
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vse_gpo.backbones.backbone import Backbone
from vse_gpo.batch import EncoderOutput, Features, ImageInputs, Tokens, hand_over, valid_items
from vse_gpo.errors import VSEError
from vse_gpo.pooling.sets import apply_pooling


@runtime_checkable
class SizeAugmentation(Protocol):
    """Drops items of each set while training, so that the pooling sees many set sizes.

    The lengths are on the CPU; it draws there too, so that nothing waits for a GPU.
    """

    def __call__(self, features: Features) -> Features: ...


class Encoder(nn.Module):
    """Turns a batch of images or captions into unit embeddings.

    Args:
        backbone: inputs → Features of its own width.
        projection: (…, width) → (…, embedding width), applied to every item.
        pooling: (features (B,N,D), lengths (B,)) → (B,D).
        size_augmentation: Features → Features in training only; None leaves the sets unchanged.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        projection: nn.Module,
        pooling: nn.Module,
        size_augmentation: SizeAugmentation | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.size_augmentation = size_augmentation
        self.projection = projection
        self.pooling = pooling

    def forward(self, inputs: ImageInputs | Tokens) -> Float[Tensor, "batch dim"]:
        return self.embed(self.project(inputs))

    def output(self, inputs: ImageInputs | Tokens, *, with_items: bool) -> EncoderOutput:
        """Unit embeddings and, if they are asked for, the items that are pooled, each scaled to unit length."""
        items = self.project(inputs)
        return EncoderOutput(self.embed(items), self.scale(items) if with_items else None)

    def project(self, inputs: ImageInputs | Tokens) -> Features:
        """Sets of items in the space of the embedding."""
        features: Features = self.backbone(inputs)
        if self.training and self.size_augmentation is not None:
            features = self.size_augmentation(features)
        return Features(self.projection(features.values), features.lengths)

    def embed(self, items: Features) -> Float[Tensor, "batch dim"]:
        """Unit embeddings of projected sets."""
        # pooling and normalisation run in float32, like all of an exported graph
        exporting = torch.compiler.is_exporting()
        with nullcontext() if exporting else torch.autocast(items.values.device.type, enabled=False):
            return normalize(apply_pooling(self.pooling, items.values.float(), items.lengths))

    def scale(self, items: Features) -> Features:
        """Projected sets with every item of unit length."""
        with torch.autocast(items.values.device.type, enabled=False):
            return Features(normalize(items.values.float()), items.lengths)


def normalize(vectors: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
    """Divide by the L2 norm plus 1e-8, as in the training of the released models."""
    return vectors / (vectors.norm(dim=-1, keepdim=True) + 1e-8)


class ResidualProjection(nn.Module):
    """``fc(x) + mlp(x)``, the released projection of region features.

    Its BatchNorm also sees padded rows, as in the training of the released models. With several processes it has the
    statistics of all of them, as one process would; in micro-batches those of each micro-batch.

    Args:
        in_features: width of the backbone's features.
        out_features: width of the embedding; the MLP's hidden layer is half as wide.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.fc = linear_projection(in_features, out_features)
        self.mlp = nn.Sequential(
            nn.Linear(in_features, out_features // 2),
            SharedBatchNorm(out_features // 2),
            nn.ReLU(inplace=True),
            nn.Linear(out_features // 2, out_features),
        )

    def forward(self, values: Float[Tensor, "batch items dim"]) -> Float[Tensor, "batch items width"]:
        rows = values.flatten(0, 1)
        return (self.fc(rows) + self.mlp(rows)).unflatten(0, values.shape[:2])


class SharedBatchNorm(nn.BatchNorm1d):
    """BatchNorm of rows (rows, width) that can take its statistics from the rows of all processes of a training.

    ``torch.nn.SyncBatchNorm`` does the same, but only on GPUs.
    """

    is_shared = False  # set by a training of several processes
    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
        if not (self.training and self.is_shared):
            return super().forward(rows)
        values = rows.float()
        count = _SumOverProcesses.apply(values.new_full((), len(values)))
        mean = _SumOverProcesses.apply(values.sum(0)) / count
        variance = _SumOverProcesses.apply((values - mean).square().sum(0)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scaled: Tensor = (values - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
        return scaled.to(rows.dtype)


class _SumOverProcesses(torch.autograd.Function):
    """Sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total


def linear_projection(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer with Xavier-uniform weights and zero bias, the released projection of grid features."""
    layer = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class DropRegions:
    """Drop each item independently, with a fixed probability.

    Raises:
        VSEError: if the probability is not between 0 and 1.
    """

    def __init__(self, probability: float = 0.2) -> None:
        self.probability = _checked(probability)

    def __call__(self, features: Features) -> Features:
        return keep_items(features, torch.rand(features.values.shape[:2]) >= self.probability)


class DropCells:
    """Drop grid cells at a rate drawn per image: for r ~ U(0,1), each cell with ``probability · r`` if r > threshold.

    Args:
        probability: the largest drop rate.
        threshold: images with a smaller r keep all their cells.

    Raises:
        VSEError: if the probability is not between 0 and 1.
    """

    def __init__(self, probability: float = 0.2, threshold: float = 0.2) -> None:
        self.probability = _checked(probability)
        self.threshold = threshold

    def __call__(self, features: Features) -> Features:
        batch, items, _ = features.values.shape
        rate = torch.rand(batch, 1)
        rate = torch.where(rate > self.threshold, self.probability * rate, 0.0)
        return keep_items(features, torch.rand(batch, items) >= rate)


def _checked(probability: float) -> float:
    if not 0.0 <= probability <= 1.0:
        raise VSEError(f"size augmentation with probability {probability}, expected 0 to 1")
    return probability


def keep_items(features: Features, keep: Bool[Tensor, "batch items"]) -> Features:
    """Move the kept items of each set to the front, in order; a set that would lose all items keeps all of them.

    Args:
        features: sets; their values may be on another device than the lengths.
        keep: the items to keep; on the CPU.
    """
    items, device = features.values.shape[1], features.values.device
    valid = valid_items(features.lengths.cpu(), items)
    keep = keep & valid
    keep = torch.where(keep.any(1, keepdim=True), keep, valid)
    lengths = keep.sum(1)
    order = keep.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, : int(lengths.max())]
    order = hand_over(order, device)
    values = features.values.gather(1, order[:, :, None].expand(-1, -1, features.values.shape[2]))
    padded = ~valid_items(lengths, values.shape[1], device)[:, :, None]
    return Features(values.masked_fill(padded, 0.0), lengths)

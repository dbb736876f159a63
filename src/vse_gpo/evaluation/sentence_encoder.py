"""A model behind the interface of sentence-transformers, for programs that call it: their evaluators, for example."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from vse_gpo.errors import VSEError
from vse_gpo.model import VSE
from vse_gpo.precision import full_product

Vectors = npt.NDArray[Any] | Tensor


class EvaluatedMetrics:
    """Takes the metrics that an evaluator of sentence-transformers notes in a model's card.

    Attributes:
        metrics: name → value, of all evaluators so far.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def set_evaluation_metrics(self, evaluator: Any, metrics: dict[str, float], epoch: int = 0, step: int = 0) -> None:
        """Called by the evaluator."""
        self.metrics |= metrics


class SentenceEncoder:
    """One ``encode`` for texts and for images, and their cosine similarity.

    It has what evaluators of sentence-transformers call. Settings of theirs that this model has no use for, such as
    prompts, are refused and not ignored.

    Args:
        model: the two encoders.

    Raises:
        VSEError: if the model ranks by an interaction, not by embeddings.
    """

    similarity_fn_name = "cosine"

    def __init__(self, model: VSE) -> None:
        if model.interaction is not None:
            raise VSEError(
                f"a model with {type(model.interaction).__name__}, which compares sets of items, expected one that "
                "ranks by embeddings; use vse-evaluate"
            )
        self.model = model
        self.model_card_data = EvaluatedMetrics()

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    def encode(
        self,
        inputs: Any,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = True,
        truncate_dim: int | None = None,
    ) -> Vectors:
        """Unit embeddings (n, E) in float32, in order; (E,) for a single input.

        Args:
            inputs: texts, or images as ``VSE.encode_images`` takes them except for paths, which are texts here.
            prompt_name, prompt: only None, or empty.
            batch_size: inputs at once.
            show_progress_bar: no bar is shown.
            convert_to_numpy: return an array.
            convert_to_tensor: return a tensor, on the CPU, whatever ``convert_to_numpy`` says.
            normalize_embeddings: they have unit length in any case.
            truncate_dim: only None.

        Raises:
            VSEError: if there is a prompt or a width, texts and images are mixed, or an input cannot be read.
        """
        if prompt or prompt_name:
            raise VSEError(f"prompt {prompt or prompt_name!r}: this model knows no prompts, expected none")
        if truncate_dim is not None:
            raise VSEError(f"truncate_dim={truncate_dim}: embeddings of this model cannot be cut, expected none")
        single = not isinstance(inputs, Sequence) or isinstance(inputs, str)
        listed = [inputs] if single else list(inputs)
        texts = sum(isinstance(one, str) for one in listed)
        if texts not in (0, len(listed)):
            raise VSEError(f"{texts} texts among {len(listed)} inputs, expected only texts or only images")
        encode = self.model.encode_captions if texts else self.model.encode_images
        found = encode(listed, batch_size=batch_size)
        found = found[0] if single else found
        return found.numpy() if convert_to_numpy and not convert_to_tensor else found

    encode_query = encode  # both sides of a search are embedded alike
    encode_document = encode

    def similarity(self, first: Vectors, second: Vectors) -> Float[Tensor, "first second"]:
        """Cosine of every embedding of the first with every one of the second.

        Args:
            first, second: (n, E), or (E,) for one.
        """
        return full_product(*(_unit(one).unsqueeze(0) if one.ndim == 1 else _unit(one) for one in (first, second)))

    def similarity_pairwise(self, first: Vectors, second: Vectors) -> Float[Tensor, " pairs"]:
        """Cosine of each embedding of the first with its counterpart of the second.

        Args:
            first, second: (n, E) each.
        """
        return (_unit(first) * _unit(second)).sum(-1)


def _unit(vectors: Vectors) -> Tensor:
    values = torch.from_numpy(np.asarray(vectors)) if not isinstance(vectors, Tensor) else vectors
    return normalize(values.float(), dim=-1)

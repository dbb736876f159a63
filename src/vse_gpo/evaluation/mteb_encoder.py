"""A model as an encoder of mteb, for its tasks of images and texts (MIEB); needs the extra ``mteb``."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from mteb.models import ModelMeta
from mteb.models.model_meta import ScoringFunction
from mteb.types import Modalities
from torch import Tensor

from vse_gpo.errors import VSEError
from vse_gpo.evaluation.sentence_encoder import SentenceEncoder
from vse_gpo.model import VSE
from vse_gpo.retrieval.arrays import unit_rows

MODALITIES: list[Modalities] = ["text", "image"]


class MTEBEncoder:
    """What ``mteb.evaluate`` takes: ``mteb.evaluate(MTEBEncoder(model, name="me/mine"), tasks)``.

    mteb keeps results by the model's name and revision; the revision is a hash of the weights, so that another model of
    the same name is tested anew.

    Args:
        model: the two encoders.
        name: ``account/name`` in mteb's tables.

    Raises:
        VSEError: if the name has another form, the model does not know its settings or ranks by an interaction.
    """

    def __init__(self, model: VSE, *, name: str) -> None:
        if name.count("/") != 1 or not all(name.split("/")):
            raise VSEError(f"name={name}, expected account/name, as on the Hugging Face hub")
        self.encoder = SentenceEncoder(model)
        self.similarity = self.encoder.similarity
        self.similarity_pairwise = self.encoder.similarity_pairwise
        self.mteb_model_meta = ModelMeta(
            loader=None,
            name=name,
            revision=model.fingerprint(),
            release_date=None,
            languages=None,
            n_parameters=sum(weight.numel() for weight in model.parameters()),
            memory_usage_mb=None,
            max_tokens=None,
            embed_dim=None,
            license=None,
            open_weights=None,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch"],
            similarity_fn_name=ScoringFunction.COSINE,
            use_instructions=False,
            training_datasets=None,
            modalities=MODALITIES,
        )

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any = None,
        hf_split: str | None = None,
        hf_subset: str | None = None,
        prompt_type: Any = None,
        batch_size: int = 32,
        show_progress_bar: bool = False,
    ) -> Float[Tensor, "items dim"]:
        """Embeddings of all items. An item with a text and an image has the sum of both, as in mteb's other encoders.

        Args:
            inputs: batches with a list of texts, images or both.
            task_metadata, hf_split, hf_subset, prompt_type: of the task; this model reads all tasks alike.
            batch_size: the loader's, whose batches are taken as they are.
            show_progress_bar: no bar is shown.

        Raises:
            VSEError: if a batch has neither texts nor images, or an item cannot be read.
        """
        parts = []
        for batch in inputs:
            known = [list(batch[modality]) for modality in MODALITIES if modality in batch]
            if not known:
                raise VSEError(f"a batch with {', '.join(batch)}, expected {' or '.join(MODALITIES)}")
            embedded = [self.encoder.encode(items, batch_size=len(items), convert_to_tensor=True) for items in known]
            parts.append(torch.stack([torch.as_tensor(one) for one in embedded]).sum(0))
        return unit_rows(torch.cat(parts), "embedding")

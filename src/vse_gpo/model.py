"""VSE: an image encoder and a caption encoder that share one embedding space."""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import huggingface_hub  # see ``storage.hub``
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vse_gpo.batch import Batch, EncoderOutput, ImageInputs, Indexed, Tokens, encode_batches
from vse_gpo.data.preparation import CaptionPreparation, ImagePreparation
from vse_gpo.encoder import Encoder
from vse_gpo.errors import VSEError, described
from vse_gpo.interaction import Interaction
from vse_gpo.losses import PairLogits
from vse_gpo.precision import full_product
from vse_gpo.retrieval.similarity import check_directions
from vse_gpo.storage.adapters import merged_weights
from vse_gpo.storage.card import Results, model_card
from vse_gpo.storage.hub import upload
from vse_gpo.storage.outline import outline
from vse_gpo.storage.settings import build, without_weights
from vse_gpo.storage.weights import check_values, check_weights, hash_of, write_weights
from vse_gpo.storage.writing import whole_folder

EMBEDDING, INTERACTION = "embedding", "interaction"  # kinds of similarity
SETTINGS, WEIGHTS, CARD = "vse_gpo.json", "model.safetensors", "README.md"


class VSE(nn.Module):
    """Two encoders; the similarity of an image and a caption is the dot product of their unit embeddings.

    A model with an interaction has a second, fine-grained similarity, that of all items of the two.

    Args:
        image_encoder: image inputs → unit embeddings (B, E).
        text_encoder: tokens → unit embeddings (B, E).
        prepare_images: list of images (as the encoder's transform takes them) → a batch of image inputs.
        prepare_captions: list of captions → tokens.
        logits: similarities → logits, for models that bring a scale and bias of their own; None for others.
        interaction: compares the items of images and captions; None for models that compare only embeddings.
    """

    def __init__(
        self,
        *,
        image_encoder: Encoder,
        text_encoder: Encoder,
        prepare_images: ImagePreparation,
        prepare_captions: CaptionPreparation,
        logits: PairLogits | None = None,
        interaction: Interaction | None = None,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.prepare_images = prepare_images
        self.prepare_captions = prepare_captions
        self.logits = logits
        self.interaction = interaction
        self.settings: dict[str, Any] | None = None  # the model was built from these; needed to save it

    def forward(self, batch: Batch) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
        """Unit embeddings of the images and of the captions."""
        return self.image_encoder(batch.images), self.text_encoder(batch.tokens)

    def outputs(self, batch: Batch) -> tuple[EncoderOutput, EncoderOutput]:
        """All that the model's similarities compare: embeddings and, for an interaction, sets of items."""
        with_items = self.interaction is not None
        return (
            self.image_encoder.output(batch.images, with_items=with_items),
            self.text_encoder.output(batch.tokens, with_items=with_items),
        )

    def similarity(self, kind: str, images: EncoderOutput, captions: EncoderOutput) -> Float[Tensor, "images captions"]:
        """Similarity of every image and every caption.

        Args:
            kind: ``embedding``, or ``interaction`` for models with one.
            images, captions: see ``outputs``.

        Raises:
            VSEError: if the model has no interaction, and its similarity is asked for.
        """
        if kind == EMBEDDING:
            return full_product(images.embeddings, captions.embeddings)
        if self.interaction is None or images.items is None or captions.items is None:
            raise VSEError("the model has no interaction; train one with interaction=maxsim or another")
        similarity: Tensor = self.interaction(images.items, captions.items)
        return similarity

    @torch.inference_mode()
    def encode_images(self, images: Any, *, batch_size: int = 64) -> Float[Tensor, "images dim"]:
        """Unit embeddings (n, E) in float32, on the CPU, one for each image in order.

        Args:
            images: one image or any number of them: paths, PIL images, uint8 arrays (H, W, 3) or (H, W), uint8 tensors
                (3, H, W); of a region model features (regions, width).
            batch_size: images at once.

        Raises:
            VSEError: if there is no image, or one cannot be read; its row is named. Or if the model is broken: an
                embedding is NaN or zero.
        """
        prepare = self.prepare_images
        listed = _each("image", prepare.read, _listed(images, prepare.listed, "an image"))
        return self._encode(self.image_encoder, prepare, listed, batch_size)

    @torch.inference_mode()
    def encode_captions(self, captions: Any, *, batch_size: int = 128) -> Float[Tensor, "captions dim"]:
        """Unit embeddings (n, E) in float32, on the CPU, one for each caption in order.

        Args:
            captions: one text or any number of them.
            batch_size: captions at once.

        Raises:
            VSEError: if there is no caption, or one is no text; its row is named. Or if the model is broken: an
                embedding is NaN or zero.
        """
        listed = _listed(captions, lambda given: [given] if isinstance(given, str) else iter(given), "a caption")
        return self._encode(self.text_encoder, self.prepare_captions, _each("caption", _text, listed), batch_size)

    def _encode(
        self,
        encoder: Encoder,
        prepare: Callable[[Sequence[Any]], ImageInputs | Tokens],
        items: Iterator[Any],
        size: int,
    ) -> Float[Tensor, "items dim"]:
        if size < 1:
            raise VSEError(f"batch_size={size}, expected at least 1")
        device = next(encoder.parameters()).device
        parts = iter(lambda: list(islice(items, size)), [])
        batches = (Indexed(prepare(part), torch.arange(len(part))) for part in parts)
        was_training = self.training
        self.eval()
        try:
            embeddings = [part.embeddings.cpu() for part in encode_batches(encoder, batches, device)]
        finally:
            self.train(was_training)
        if not embeddings:
            raise VSEError("nothing to encode: an empty list")
        found = torch.cat(embeddings)
        check_directions("embedding", found)
        return found

    def architecture(self) -> dict[str, Any]:
        """Settings that rebuild the same architecture without weight files; only the tokeniser still needs its files.

        Raises:
            VSEError: if the model does not know its settings.
        """
        if self.settings is None:
            raise VSEError("a model that was put together by hand cannot be saved: its settings are not known")
        settings: dict[str, Any] = without_weights(self.settings)
        for name, encoder in (("image_encoder", self.image_encoder), ("text_encoder", self.text_encoder)):
            settings[name]["backbone"] = encoder.backbone.architecture(settings[name]["backbone"])
        return settings

    def fingerprint(self) -> str:
        """Hash of the weights and of all settings but those of the captions, wherever the model was loaded from.

        Raises:
            VSEError: if the model does not know its settings.
        """
        settings = self.architecture()
        del settings["prepare_captions"]  # names files, whose paths may differ
        return hash_of(merged_weights(self.state_dict()), json.dumps(settings, sort_keys=True).encode())

    def save_pretrained(self, folder: str | Path, *, card: "huggingface_hub.ModelCard | None" = None) -> None:
        """Write settings, weights and the files of the tokeniser; the folder appears only when complete.

        Args:
            folder: a new folder.
            card: model card, written as README.md.

        Raises:
            VSEError: if the model does not know its settings, or the folder exists.
        """
        folder = Path(folder).expanduser()
        settings = self.architecture()
        with whole_folder(folder) as part:
            settings["prepare_captions"] = self.prepare_captions.save(part, settings["prepare_captions"])
            (part / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            write_weights(self, part / WEIGHTS)
            if card is not None:
                card.save(part / CARD)

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, metrics: Results | None = None, message: str = "Upload the model"
    ) -> str:
        """Upload what ``save_pretrained`` writes and a model card, as the logged-in account; return the address.

        Args:
            repo_id: ``account/name``; created if missing.
            private: whether a new repository is private.
            metrics: scores for the card; see ``read_metrics``.
            message: commit message.

        Raises:
            VSEError: if the model cannot be saved, or the hub rejects it.
        """
        with tempfile.TemporaryDirectory() as home:
            folder = Path(home) / "model"
            self.save_pretrained(folder, card=model_card(repo_id, self.architecture(), metrics or {}))
            return upload(folder, repo_id, private=private, message=message)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, tokenizer: str | Path | None = None, vocabulary: str | Path | None = None
    ) -> "VSE":
        """A model in eval mode from anything that holds one; see ``vse_gpo.checkpoints.sources.load_model``.

        Args:
            source: a folder of ``save_pretrained``, a Hugging Face hub id, a run's ``.ckpt`` or its folder, a released
                ``.pth``, or CLIP, SigLIP and their kind as Hugging Face or open_clip write them.
            tokenizer: of a released BERT model, a hub id or a folder; None takes ``bert-base-uncased``.
            vocabulary: file of a released BiGRU model.

        Raises:
            VSEError: if the source holds no model, or its files are damaged.
        """
        from vse_gpo.checkpoints.sources import load_model  # noqa: PLC0415, it builds models: above this module

        return load_model(source, tokenizer=tokenizer, vocabulary=vocabulary)


def _listed(items: Any, listed: Callable[[Any], Iterable[Any]], one: str) -> Iterable[Any]:
    try:
        return listed(items)
    except TypeError as error:
        raise VSEError(f"found {described(items)}, expected {one} or a list of them") from error


def _each(what: str, read: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Every item as it is read; one that cannot be is named by its row."""
    for row, item in enumerate(items):
        try:
            yield read(item)
        except VSEError as error:
            raise VSEError(f"{what} {row}: {error}") from error


def _text(caption: Any) -> str:
    if not isinstance(caption, str):
        raise VSEError(f"found {described(caption)}, expected a text")
    try:
        caption.encode()
    except UnicodeEncodeError:
        raise VSEError(f"found {caption[:60]!r}, which is not Unicode, expected a text") from None
    return caption


def build_model(settings: dict[str, Any], weights: dict[str, Tensor], folder: Path | None = None) -> VSE:
    """Build a model in eval mode; the weights must match it exactly, none missing or extra.

    Args:
        settings: the model's settings, as ``configs/train.yaml`` composes them, in plain containers.
        weights: all parameters and buffers, by name.
        folder: folder of the files that the settings name.

    Raises:
        VSEError: if the settings do not describe a model, or the weights do not match it.
    """
    if not isinstance(settings, dict) or settings.get("_target_") != "vse_gpo.model.VSE":
        raise VSEError("not the settings of a model, expected those of vse_gpo.model.VSE")
    plain = without_weights(settings)
    check_weights(weights, outline(plain, folder))  # before any memory is taken: settings may ask for any size
    for part in ("image_encoder.", "text_encoder."):
        check_values({name: weight for name, weight in weights.items() if name.startswith(part)})
    model: VSE = build(plain, folder)
    model.load_state_dict(weights)
    model.settings = settings
    return model.eval()

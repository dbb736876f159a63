"""Images prepared by the image processor of a Hugging Face model: its resizing, interpolation and cropping."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from transformers import AutoImageProcessor

from vse_gpo.data.decoding import RGB
from vse_gpo.data.images import PrepareImages
from vse_gpo.errors import VSEError, first_line

CONFIG = "preprocessor_config.json"
PROBE = (3, 40, 56)  # shape of an image that shows what a processor gives


class ProcessorImages(PrepareImages):
    """Images → a batch of square uint8 pixels, as a model's own processor makes them before it normalises them.

    Args:
        processor: settings of the processor, as Hugging Face writes them, or their JSON; they may come from anywhere.
        crop, flip: see ``PrepareImages``.

    Raises:
        VSEError: if they describe no processor, or one whose images are not squares of one size.
    """

    def __init__(
        self, *, processor: Mapping[str, Any] | str, crop: Sequence[float] = (0.9, 1.0), flip: float = 0.0
    ) -> None:
        self.processor = processor_of(json.loads(processor) if isinstance(processor, str) else processor)
        try:
            made = self._made(torch.zeros(PROBE, dtype=torch.uint8))
        except (TypeError, ValueError, KeyError, RuntimeError) as error:
            raise VSEError(f"its image processor cannot prepare an image ({first_line(error)})") from error
        if made.dtype != torch.uint8 or made.ndim != 3 or made.shape[1] != made.shape[2]:
            raise VSEError(
                f"its image processor gives {tuple(made.shape)} of {made.dtype}, expected square images of one size "
                "in bytes; models that read images of any shape (NaFlex) are not taken"
            )
        super().__init__(size=made.shape[1], crop=crop, flip=flip)

    def fit(self, pixels: RGB) -> UInt8[Tensor, "3 size size"]:
        return self._made(pixels)

    def normalization(self) -> dict[str, Any]:
        """What the processor does to the bytes after that: mean, standard deviation and scale of a PixelNormalization.

        Raises:
            VSEError: if it does anything else, as a comparison of an image shows.
        """
        one = self.processor
        mean, std = ([*one.image_mean], [*one.image_std]) if one.do_normalize else ([0.0] * 3, [1.0] * 3)
        scale = 1.0 / one.rescale_factor if one.do_rescale else 1.0
        pixels = torch.arange(3 * 40 * 56).remainder(251).view(PROBE).to(torch.uint8)
        expected = one(images=pixels, input_data_format="channels_first", return_tensors="pt")["pixel_values"][0]
        average, deviation = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
        if not torch.allclose((self.fit(pixels) / scale - average) / deviation, expected, atol=1e-4):
            raise VSEError("its image processor does more than resize, crop, rescale and normalise, which is not taken")
        return {"mean": mean, "std": std, "scale": scale}

    def _made(self, pixels: RGB) -> Tensor:
        given = {"images": pixels, "input_data_format": "channels_first", "return_tensors": "pt"}
        return self.processor(**given, do_rescale=False, do_normalize=False)["pixel_values"][0]


def processor_of(settings: Mapping[str, Any]) -> Any:
    """An image processor of Hugging Face from its settings; code that comes with them is never run.

    Raises:
        VSEError: if there is no such processor.
    """
    with tempfile.TemporaryDirectory() as folder:
        kept = {name: value for name, value in settings.items() if name != "auto_map"}
        (Path(folder) / CONFIG).write_text(json.dumps(kept), encoding="utf-8")
        try:
            return AutoImageProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise VSEError(f"not an image processor: {first_line(error)}; expected a Hugging Face config") from error

"""Images and captions prepared by open_clip, as its models were trained with; needs the extra ``open_clip``."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from vse_gpo.data.captions import Words
from vse_gpo.data.decoding import RGB
from vse_gpo.data.images import PrepareImages
from vse_gpo.errors import VSEError, first_line

try:
    import open_clip as open_clip  # noqa: PLC0414, checkpoints/open_clip.py takes it from here
    from open_clip.transform import PreprocessCfg, image_transform_v2
except ImportError as error:
    raise VSEError("models of open_clip need it, and it is not installed; pip install 'vse_gpo[open_clip]'") from error


OPTIONS = {"clean", "language", "strip_sep_token"}  # of tokenisers


class OpenClipImages(PrepareImages):
    """Images → a batch of square uint8 pixels, resized and cropped by open_clip.

    Args:
        preprocess: open_clip's ``preprocess_cfg``; it may come from anywhere.
        crop, flip: see ``PrepareImages``.

    Raises:
        VSEError: if open_clip does not take the settings, or they do not make squares.
    """

    def __init__(self, *, preprocess: Mapping[str, Any], crop: Sequence[float] = (0.9, 1.0), flip: float = 0.0) -> None:
        try:
            transforms = image_transform_v2(PreprocessCfg(**preprocess), is_train=False).transforms
        except (TypeError, ValueError, KeyError, AssertionError) as error:
            raise VSEError(f"open_clip's preprocess_cfg is refused ({first_line(error)}), expected its own") from error
        self._fit = transforms[:-2]  # the last two make floats of the pixels and normalise them
        made = self._fitted(Image.new("RGB", (56, 40)))
        if made.width != made.height:
            raise VSEError(f"open_clip's images are {made.width}×{made.height} pixels, expected squares")
        super().__init__(size=made.width, crop=crop, flip=flip)

    def fit(self, pixels: RGB) -> UInt8[Tensor, "3 size size"]:
        return pil_to_tensor(self._fitted(Image.fromarray(pixels.permute(1, 2, 0).numpy())))

    def _fitted(self, image: Image.Image) -> Image.Image:
        for transform in self._fit:
            image = transform(image)
        return image


class OpenClipTokens:
    """The tokeniser of an open_clip model; a caption is one word, as open_clip also cuts and pads it.

    Args:
        text: open_clip's ``text_cfg``; it may come from anywhere.
        pretrained: folder with the files of a Hugging Face tokeniser; None takes open_clip's own, which has no files.

    Raises:
        VSEError: if there is no such tokeniser.
    """

    mask_id = 0
    unknown_id = None

    def __init__(self, text: Mapping[str, Any], pretrained: str | None = None) -> None:
        self.vocabulary_size: int = text.get("vocab_size", 49408)
        self._longest: int = text.get("context_length", 77)
        options = dict(text.get("tokenizer_kwargs") or {})
        if strange := sorted(options.keys() - OPTIONS):  # others may name files or run code
            raise VSEError(f"open_clip's tokeniser with {strange[0]}, expected only {', '.join(sorted(OPTIONS))}")
        options["context_length"] = self._longest
        try:
            if pretrained is None:
                self._tokenizer: Any = open_clip.SimpleTokenizer(**options)
            else:
                mode = text.get("tokenizer_mode")
                options |= {"tokenizer_mode": mode, "trust_remote_code": False}
                self._tokenizer = open_clip.tokenizer.HFTokenizer(pretrained, **options)
        except Exception as error:  # each kind of tokeniser raises its own
            raise VSEError(f"{pretrained or 'open_clip'}: no tokeniser ({first_line(error)})") from error
        self._pretrained = pretrained
        nothing = self._tokenizer([""])[0].tolist()
        self._fillers = {nothing[-1], *nothing[1:3]}  # end of text, padding
        self._cut = False  # whether a caption was cut

    def words(self, caption: str) -> Words:
        [ids] = self._tokenizer([caption]).tolist()
        if not self._cut and ids[-2] not in self._fillers:
            [longer] = self._tokenizer([caption], context_length=self._longest + 1).tolist()
            if longer[-2] not in self._fillers:
                self._cut = True
                warnings.warn(f"captions are cut to {self._longest} tokens, first {caption[:60]!r}…", stacklevel=2)
        return [ids]

    def sequence(self, words: Words) -> list[int]:
        return [token for word in words for token in word]

    def spell(self, word: list[int]) -> str:
        return ""

    def save(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
        if self._pretrained is None:
            return settings
        self._tokenizer.save_pretrained(folder / "tokenizer")
        return settings | {"pretrained": "inside:tokenizer"}

"""What open_clip makes of images and captions; see also ``tests/checkpoints/test_open_clip.py``."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from vse_gpo.data.captions import PrepareCaptions
from vse_gpo.data.open_clip import OpenClipImages, OpenClipTokens
from vse_gpo.errors import VSEError


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_pixels_are_open_clips(mode):
    prepare = OpenClipImages(preprocess={"size": 16, "resize_mode": mode, "interpolation": "bicubic"})
    transform = open_clip.image_transform(16, is_train=False, resize_mode=mode, interpolation="bicubic")
    mean, std = (
        torch.tensor(values).view(3, 1, 1) for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    for shape in ((40, 61), (61, 40), (16, 16), (9, 30)):
        image = Image.fromarray(np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8))
        expected = (transform(image) * std + mean) * 255
        [made] = prepare([image])
        torch.testing.assert_close(made.float(), expected, atol=1e-3, rtol=0)


def test_tokens_are_open_clips_and_a_cut_is_told_once():
    text = {"context_length": 12, "vocab_size": 49408}
    prepare = PrepareCaptions(tokenizer=OpenClipTokens(text))
    captions = ["", "A dog.", "one two three four five six seven eight nine ten"]  # 12 tokens with both ends
    assert torch.equal(prepare(captions).ids, open_clip.tokenize(captions, context_length=12))
    assert prepare(captions).lengths.tolist() == [12] * 3
    long = "a dog " * 9
    with pytest.warns(UserWarning, match="captions are cut to 12 tokens, first 'a dog a dog"):
        assert torch.equal(prepare([long]).ids, open_clip.tokenize([long], context_length=12))
    prepare([long])  # no second warning, which would be an error


def test_settings_that_open_clip_refuses_give_one_line():
    for make, line in (
        (lambda: OpenClipImages(preprocess={"resize_mode": "other"}), "preprocess_cfg is refused"),
        (lambda: OpenClipImages(preprocess={"widht": 3}), "preprocess_cfg is refused"),
        (lambda: OpenClipImages(preprocess={"size": (16, 24)}), "24×16 pixels, expected squares"),
        (
            lambda: OpenClipTokens({"tokenizer_kwargs": {"bpe_path": "/etc/passwd"}}),
            "tokeniser with bpe_path, expected",
        ),
        (lambda: OpenClipTokens({}, "no/such"), "no/such: no tokeniser"),
    ):
        with pytest.raises(VSEError, match=line) as error:
            make()
        assert "\n" not in str(error.value)

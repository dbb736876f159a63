"""Dual encoders of Hugging Face, small enough for a test, in folders like those on the hub; images and captions."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import sentencepiece
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    AltCLIPConfig,
    AltCLIPModel,
    AutoTokenizer,
    BertTokenizer,
    ChineseCLIPConfig,
    ChineseCLIPImageProcessor,
    ChineseCLIPModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    GemmaTokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipTokenizer,
    XLMRobertaTokenizer,
)

from tests.helpers.tiny_encoders import SENTENCES, SMALL, trained

SIDE = 32
VISION = {**SMALL, "image_size": SIDE, "patch_size": 8}
CAPTIONS = [
    "a",
    "A Dog",
    "two dogs",
    "A RED CAR AND A BLUE BOAT, SIDE BY SIDE",
    "a red car and a blue boat, side by side",
    "The dog's tail is green.",
    "skateboarders jump over the fence quickly!",
    "  spaces   between\twords ",
    "the grass",
    "Zwei Hunde laufen über die Straße",
    "a dog; a cat? a car: 42 boats (and more)",
    "ÉCLAIR",
    "a skateboard lies on the grass",
    "blue",
    "Boat Car Dog",
    "the fence",
    "two skateboarders jump over the fence quickly and a dog runs behind them",
    "a green dog",
    "a dog " * 40,
    "The red car and the blue boat and the dog and the fence and the grass and the tail and the skateboard " * 3,
]


def photographs(count: int = 20) -> list[Image.Image]:
    """Images with smooth colours, edges and grain, at 224×224 pixels and in odd shapes, from JPEG as photographs."""
    draws = np.random.default_rng(0)
    shapes = [(224, 224), (500, 333), (333, 500), (31, 75), (640, 97), (97, 300), (32, 32), (33, 47)]
    images = []
    for number in range(count):
        width, height = shapes[number % len(shapes)]
        colours = Image.fromarray(draws.integers(256, size=(5, 7, 3), dtype=np.uint8))
        smooth = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
        smooth[height // 3 : height // 2, width // 4 : width // 2] = draws.integers(256, size=3)
        grain = draws.integers(-12, 13, size=smooth.shape)
        file = io.BytesIO()
        Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).save(file, "JPEG")
        images.append(Image.open(file).convert("RGB"))
    return images


def _clip(folder: Path) -> None:
    tokenizer = trained(CLIPTokenizer(), 600)
    tokenizer.model_max_length = 16
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {**SMALL, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    config = CLIPConfig(text_config=text, vision_config=VISION, projection_dim=6)
    processor = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    _save(folder, CLIPModel(config), tokenizer, processor)


def _siglip(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([sentence.lower() for sentence in SENTENCES]),
        model_prefix=str(folder / "spiece"),
        vocab_size=43,
        pad_id=-1,
        bos_id=-1,
        eos_id=1,
        unk_id=2,
        user_defined_symbols=["<pad>"],
        minloglevel=2,
    )
    tokenizer = SiglipTokenizer(str(folder / "spiece.model"), model_max_length=64, model_input_names=["input_ids"])
    _siglip_model(folder, tokenizer)


def _siglip2(folder: Path) -> None:
    """SigLIP 2 with one resolution: the model of SigLIP, the tokeniser of Gemma, which does not heed the lower case."""
    tokenizer = trained(GemmaTokenizer(), 300)
    tokenizer = GemmaTokenizer(
        vocab=tokenizer.get_vocab(),
        merges=[],
        model_max_length=64,
        padding_side="right",
        model_input_names=["input_ids"],
        do_lower_case=True,
        add_bos_token=False,
        add_eos_token=True,
    )
    _siglip_model(folder, tokenizer)


def _siglip_model(folder: Path, tokenizer: Any) -> None:
    text = {**SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 8}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))
    _save(folder, model, tokenizer, SiglipImageProcessor(size={"height": SIDE, "width": SIDE}))


def _altclip(folder: Path) -> None:
    tokenizer = trained(XLMRobertaTokenizer(), 200)
    tokenizer.model_max_length = 24
    text = {**SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": 26, "project_dim": 8, "pad_token_id": 1}
    config = AltCLIPConfig(text_config=text, vision_config=VISION, projection_dim=8)
    processor = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    _save(folder, AltCLIPModel(config), tokenizer, processor)


def _chinese_clip(folder: Path) -> None:
    tokenizer = trained(BertTokenizer(), 200)
    tokenizer.model_max_length = 52
    text = {**SMALL, "vocab_size": len(tokenizer), "max_position_embeddings": 52}
    config = ChineseCLIPConfig(text_config=text, vision_config=VISION, projection_dim=8)
    processor = ChineseCLIPImageProcessor(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
    _save(folder, ChineseCLIPModel(config), tokenizer, processor)


def _save(folder: Path, model: Any, tokenizer: Any, processor: Any) -> None:
    with torch.no_grad():
        for parameter in model.parameters():  # random starts are so small that all embeddings would be alike
            parameter.normal_(std=0.3)
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"):
                parameter.add_(1.0)
    for part in (model, tokenizer, processor):
        part.save_pretrained(folder)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "clip": _clip,
    "siglip": _siglip,
    "siglip2": _siglip2,
    "altclip": _altclip,
    "chinese_clip": _chinese_clip,
}


def dual_folder(family: str, folder: Path) -> Path:
    """A dual encoder of a family with random weights, its tokeniser and its image processor."""
    torch.manual_seed(0)
    FAMILIES[family](folder)
    return folder


def open_clip_folder(folder: Path, *, tokenizer: Path | None = None) -> Path:
    """A model of open_clip with random weights, as open_clip stores it.

    Args:
        folder: new folder.
        tokenizer: folder with a Hugging Face tokeniser, for a model like its SigLIP; None makes a CLIP.
    """
    images = {"image_size": SIDE, "layers": 2, "width": 8, "head_width": 4, "patch_size": 8}
    texts: dict[str, Any] = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2}
    config: dict[str, Any] = {"embed_dim": 6, "vision_cfg": images, "text_cfg": texts}
    preprocess: dict[str, Any] = {"size": SIDE, "interpolation": "bicubic", "resize_mode": "shortest"}
    folder.mkdir(parents=True)
    if tokenizer is not None:
        words = AutoTokenizer.from_pretrained(tokenizer)
        words.save_pretrained(folder)
        texts |= {"vocab_size": len(words), "hf_tokenizer_name": "its/own", "tokenizer_kwargs": {"clean": "lower"}}
        texts |= {"context_length": 64, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
        config |= {"init_logit_bias": -10, "custom_text": True}
        preprocess |= {"resize_mode": "squash", "mean": [0.5] * 3, "std": [0.5] * 3}
    written = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(written), encoding="utf-8")
    torch.manual_seed(0)
    kind = open_clip.CLIP if tokenizer is None else open_clip.CustomTextCLIP
    model = kind(**{name: value for name, value in config.items() if name != "custom_text"})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder

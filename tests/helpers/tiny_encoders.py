"""Encoders of Hugging Face and their tokenisers, small enough for a test, in folders like those on the hub."""

from pathlib import Path

from transformers import (
    BertConfig,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    DebertaV2Config,
    DistilBertConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
)

SMALL = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
WORDS = 40
FAMILIES: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(vocab_size=WORDS, **SMALL),
    "roberta": RobertaConfig(vocab_size=WORDS, max_position_embeddings=20, type_vocab_size=1, **SMALL),
    "distilbert": DistilBertConfig(vocab_size=WORDS, dim=8, n_layers=2, n_heads=2, hidden_dim=8),
    "mpnet": MPNetConfig(vocab_size=WORDS, **SMALL),
    "deberta-v2": DebertaV2Config(
        vocab_size=WORDS, relative_attention=True, position_biased_input=False, pos_att_type=["p2c", "c2p"], **SMALL
    ),
    "modernbert": ModernBertConfig(vocab_size=WORDS, pad_token_id=0, cls_token_id=1, sep_token_id=2, **SMALL),
}
SENTENCES = [
    "a red car and a blue boat, side by side",
    "the dog's tail is green",
    "two skateboarders jump over the fence quickly!",
    "a skateboard lies on the grass",
]


def trained(tokenizer: PreTrainedTokenizerBase, size: int = 320) -> PreTrainedTokenizerBase:
    """The same kind of tokeniser with a vocabulary of its own."""
    return tokenizer.train_new_from_iterator(SENTENCES, size, show_progress=False)


def roberta_folder(folder: Path) -> Path:
    """A RoBERTa of width 8, random weights and its tokeniser."""
    trained(RobertaTokenizer()).save_pretrained(folder)
    RobertaModel(RobertaConfig(vocab_size=320, **SMALL)).save_pretrained(folder)
    return folder


def clip_folder(folder: Path, longest: int = 16) -> Path:
    """A CLIP of width 8 with patches of 8×8 pixels, random weights and its tokeniser."""
    tokenizer = trained(CLIPTokenizer(), 600)
    tokenizer.model_max_length = longest
    tokenizer.save_pretrained(folder)
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": longest}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(
        text_config={**SMALL, **text, **ends},
        vision_config={**SMALL, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    return folder

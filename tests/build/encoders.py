"""Tiny random encoders with a tokenizer of our own words, as `from_pretrained` folders: no download."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedTokenizerFast

WORDS = {
    "harbour": ["ferry", "tide", "anchor", "captain", "lighthouse", "cargo", "pier", "sail"],
    "kitchen": ["oven", "recipe", "flour", "butter", "soup", "spoon", "onion", "salt"],
    "garden": ["rose", "compost", "hedge", "seedling", "spade", "orchard", "pond", "weeds"],
}
"""Label → the words that give it away."""
FILLERS = ["the", "a", "on", "with", "was", "seen", "today", "again", "old", "new", "near", "after", "found", "three"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *FILLERS, *(word for words in WORDS.values() for word in words)]

FAMILIES = {
    "albert": {"embedding_size": 16},
    "bert": {},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 32,
        "position_biased_input": False,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "type_vocab_size": 0,
    },
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4},
    "electra": {"embedding_size": 16},
    "mpnet": {"max_position_embeddings": 514},
    "roberta": {"max_position_embeddings": 514},
    "xlm-roberta": {"max_position_embeddings": 514},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
}
"""model_type → what its configuration needs beside the common sizes."""
_COMMON = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
}


def save(folder: Path, family: str = "bert", labels: int = 3, seed: int = 0, **changes: object) -> Path:
    """Write a classifier with random weights and its tokenizer to the folder."""
    torch.manual_seed(seed)
    own = FAMILIES[family]
    common = {} if "d_model" in own or "dim" in own else _COMMON
    config = AutoConfig.for_model(
        family, **{"vocab_size": len(VOCABULARY), **common, **own, "num_labels": labels, "pad_token_id": 0, **changes}
    )
    model = AutoModelForSequenceClassification.from_config(config)
    _strengthen(model)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def save_base(folder: Path, seed: int = 0) -> Path:
    """Write an encoder without a head, as a training starts from."""
    torch.manual_seed(seed)
    model = AutoModel.from_config(AutoConfig.for_model("bert", **_COMMON, hidden_dropout_prob=0.0))
    _strengthen(model)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _strengthen(model: torch.nn.Module) -> None:
    """Random weights of the usual size answer alike to everything in so small a model, and hardly learn."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )


def sentence(label: str, number: int) -> str:
    """Return the number-th sentence of a label; no two are the same, and every third has a word of another label."""
    own = WORDS[label]
    others = [word for name, words in WORDS.items() if name != label for word in words]
    picked = [own[number % 8], own[(number // 8) % 8], own[(number // 3 + 5) % 8]]
    picked += [others[number % 16]] if number % 3 == 0 else []
    fillers = [FILLERS[(number * step) % len(FILLERS)] for step in range(1, 3 + number % 9)]
    mixed = [word for pair in zip(fillers, picked * 4, strict=False) for word in pair]
    return " ".join([*mixed, *picked])

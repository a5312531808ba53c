"""A pruned vocabulary: texts of kept pieces are read as before, others fall apart into kept ones."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from newsdesk.build.errors import BuildError
from newsdesk.build.members import vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXTS = ["the ferry came", "the ferry left", "the tide came", "a tide left"]


def word_pieces() -> Tokenizer:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    pieces += ["the", "ferry", "zebra", "tide", "came", "left", "##ra"]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def unigrams() -> Tokenizer:
    pieces = [("[CLS]", 0.0), ("[PAD]", 0.0), ("[SEP]", 0.0), ("[UNK]", 0.0)]
    pieces += [(letter, -9.0) for letter in LETTERS] + [("▁", -8.0)]
    pieces += [(f"▁{word}", -3.0) for word in ("the", "zebra", "ferry", "tide", "came", "left", "a")]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 2), ("[CLS]", 0))
    return tokenizer


def save(folder: Path, tokenizer: Tokenizer) -> str:
    torch.manual_seed(0)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = AutoConfig.for_model("bert", vocab_size=len(fast), pad_token_id=fast.pad_token_id, **sizes)
    AutoModel.from_config(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("make", [word_pieces, unigrams])
def test_texts_of_kept_pieces_are_read_as_before(make, tmp_path: Path):
    base = save(tmp_path / "base", make())
    figures = vocabulary.prune(base, TEXTS, 2, tmp_path / "pruned")
    old, new = (AutoTokenizer.from_pretrained(folder) for folder in (base, tmp_path / "pruned"))
    assert figures["pieces"] == len(new) < figures["pieces_before"] == len(old)
    assert not any("zebra" in piece for piece in new.get_vocab())
    models_ = [AutoModel.from_pretrained(folder).eval() for folder in (base, tmp_path / "pruned")]
    for text in TEXTS:
        assert new.tokenize(text) == old.tokenize(text)
        states = [
            model(**tokenizer(text, return_tensors="pt")).last_hidden_state
            for model, tokenizer in zip(models_, (old, new), strict=True)
        ]
        torch.testing.assert_close(*states)


@pytest.mark.parametrize("make", [word_pieces, unigrams])
def test_a_dropped_piece_falls_apart_and_no_text_becomes_unknown(make, tmp_path: Path):
    base = save(tmp_path / "base", make())
    vocabulary.prune(base, TEXTS, 2, tmp_path / "pruned")
    new = AutoTokenizer.from_pretrained(tmp_path / "pruned")
    pieces = new.tokenize("zebra")
    assert "".join(piece.removeprefix("##").removeprefix("▁") for piece in pieces) == "zebra"
    assert max(new("zebra the")["input_ids"]) < len(new)
    assert new.pad_token_id == AutoTokenizer.from_pretrained(base).pad_token_id


def test_a_kind_that_cannot_be_pruned_is_refused(tmp_path: Path):
    letters = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}, unk_token="[UNK]"))
    with pytest.raises(BuildError, match="kind WordLevel can't be pruned, only WordPiece and Unigram"):
        vocabulary.prune(save(tmp_path / "base", letters), TEXTS, 2, tmp_path / "pruned")

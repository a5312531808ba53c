"""A pruned vocabulary: texts of kept pieces are read as before, others fall apart into kept ones."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModel, AutoTokenizer

from newsdesk.build.errors import BuildError
from newsdesk.build.members import vocabulary
from tests.build.vocabularies import TEXTS, save, unigrams, word_pieces


@pytest.mark.parametrize("make", [word_pieces, unigrams])
def test_texts_of_kept_pieces_are_read_as_before(make, tmp_path: Path):
    base = save(tmp_path / "base", make())
    figures = vocabulary.prune(base, TEXTS, 2, tmp_path / "pruned")
    old, new = (AutoTokenizer.from_pretrained(folder) for folder in (base, tmp_path / "pruned"))
    assert figures.pieces == len(new) < figures.pieces_before == len(old)
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


def test_letters_of_another_script_stay_where_a_text_has_them(tmp_path: Path):
    tokenizer = word_pieces()
    pieces = tokenizer.get_vocab() | {letter: tokenizer.get_vocab_size() + i for i, letter in enumerate("жяł€")}
    tokenizer.model = models.WordPiece(pieces, unk_token="[UNK]")
    vocabulary.prune(save(tmp_path / "base", tokenizer), [*TEXTS, "the ж"], 2, tmp_path / "pruned")
    left = AutoTokenizer.from_pretrained(tmp_path / "pruned").get_vocab()
    assert {"ж", "ł", "€"} <= {*left}
    assert "я" not in left

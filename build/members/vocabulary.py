"""Prune a base model's vocabulary to the pieces that its texts need: a smaller table, and less to fit.

A text of kept pieces is read as before. A dropped piece falls apart into smaller ones, down to single characters,
which are kept. Letters of other scripts than the Latin one are kept where a text has them: a tenth of MiniLM's
vocabulary is letters that no English news has.
"""

import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

from newsdesk.build.errors import BuildError
from newsdesk.build.members import bases
from newsdesk.build.progress import track

_KINDS = "WordPiece", "Unigram"
_MARKS = "##", "▁"
_TEXTS_AT_ONCE = 2000


class VocabularyFigures(Struct, frozen=True, kw_only=True):
    """The pieces of a base's vocabulary before it was pruned, and after."""

    pieces_before: int
    pieces: int
    min_count: int
    """The fewest times that a kept piece was met."""


def prune(base: str, texts: list[str], min_count: int, folder: Path) -> VocabularyFigures:
    """Write to `folder` an encoder without the pieces that are met under `min_count` times.

    Args:
        base: a hub name or a folder
        texts: that pieces are counted in
        min_count: of a piece that stays
        folder: is written to

    Returns:
        How many pieces there were and are.

    Raises:
        BuildError: tokenizers of its kind can't be pruned so.
    """
    bases.check(base)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    pieces = _pieces(described)
    met = _count(Tokenizer.from_file(str(path)), texts)
    special = {token["id"] for token in described["added_tokens"]}
    unknown = described["model"].get("unk_id")
    kept = [i for i, piece in enumerate(pieces) if i in special or i == unknown or _stays(piece, met[i], min_count)]
    moved = {old: new for new, old in enumerate(kept)}
    _shrink_model(base, kept, moved, folder)
    path.write_text(json.dumps(_renumbered(described, pieces, kept, moved), ensure_ascii=False), encoding="utf-8")
    (folder / "vocab.txt").unlink(missing_ok=True)
    settings = folder / "tokenizer_config.json"
    configuration = json.loads(settings.read_text(encoding="utf-8"))
    added = configuration.get("added_tokens_decoder", {})
    configuration["added_tokens_decoder"] = {str(moved[int(i)]): token for i, token in added.items()}
    settings.write_text(json.dumps(configuration, ensure_ascii=False), encoding="utf-8")
    return VocabularyFigures(pieces_before=len(pieces), pieces=len(kept), min_count=min_count)


def _pieces(described: dict[str, Any]) -> list[str]:
    """Return the pieces by id."""
    kind, vocabulary = described["model"]["type"], described["model"].get("vocab", {})
    if kind not in _KINDS:
        raise BuildError(
            f"a vocabulary of kind {kind} can't be pruned, only {' and '.join(_KINDS)}. Leave out min_piece_count."
        )
    if isinstance(vocabulary, list):
        pieces = [piece for piece, _ in vocabulary]
    else:
        pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    for token in described["added_tokens"]:  # some stand only there
        if token["id"] == len(pieces):
            pieces.append(token["content"])
    return pieces


def _stays(piece: str, count: int, min_count: int) -> bool:
    bare = _bare(piece)
    return count >= min_count or (len(bare) == 1 and (count > 0 or not _is_of_another_script(bare)))


def _is_of_another_script(character: str) -> bool:
    """Return whether it is a letter, or a mark on letters, of another script than the Latin one."""
    name = unicodedata.name(character, "")
    return unicodedata.category(character)[0] in "LM" and not name.startswith(("LATIN ", "COMBINING "))


def _bare(piece: str) -> str:
    for mark in _MARKS:
        piece = piece.removeprefix(mark) or piece
    return piece


def _count(tokenizer: Tokenizer, texts: list[str]) -> Counter[int]:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    met: Counter[int] = Counter()
    for at in track(range(0, len(texts), _TEXTS_AT_ONCE), "pieces"):
        for encoding in tokenizer.encode_batch_fast(texts[at : at + _TEXTS_AT_ONCE]):
            met.update(encoding.ids)
    return met


def _renumbered(described: dict[str, Any], pieces: list[str], kept: list[int], moved: dict[int, int]) -> dict[str, Any]:
    model = dict(described["model"])
    if isinstance(model["vocab"], list):
        model["vocab"] = [model["vocab"][i] for i in kept if i < len(model["vocab"])]
    else:
        model["vocab"] = {pieces[i]: moved[i] for i in kept if pieces[i] in model["vocab"]}
    if isinstance(model.get("unk_id"), int):
        model["unk_id"] = moved[model["unk_id"]]
    added = [{**token, "id": moved[token["id"]]} for token in described["added_tokens"]]
    return {
        **described,
        "model": model,
        "added_tokens": added,
        "post_processor": _renumbered_ids(described["post_processor"], moved),
    }


def _renumbered_ids(processor: dict[str, Any] | None, moved: dict[int, int]) -> dict[str, Any] | None:
    """Return a post-processor whose special tokens have their new ids."""
    if processor is None:
        return None
    match processor:
        case {"type": "TemplateProcessing", "special_tokens": special}:
            new = {name: {**part, "ids": [moved[i] for i in part["ids"]]} for name, part in special.items()}
            return {**processor, "special_tokens": new}
        case {"type": "BertProcessing" | "RobertaProcessing", "sep": [sep, sep_id], "cls": [cls, cls_id]}:
            return {**processor, "sep": [sep, moved[sep_id]], "cls": [cls, moved[cls_id]]}
        case {"type": "Sequence", "processors": inner}:
            return {**processor, "processors": [_renumbered_ids(part, moved) for part in inner]}
    return processor


def _shrink_model(base: str, kept: list[int], moved: dict[int, int], folder: Path) -> None:
    model = AutoModel.from_pretrained(base)
    old, pad = model.get_input_embeddings(), model.config.pad_token_id
    if pad is not None and moved.get(pad) != pad:
        raise BuildError(f"{base}: padding is piece {pad}, behind others that go, so it can't keep its number.")
    new = torch.nn.Embedding(len(kept), old.embedding_dim, padding_idx=old.padding_idx)
    new.weight.data = old.weight.data[torch.tensor(kept)].clone()
    model.set_input_embeddings(new)
    model.config.vocab_size = len(kept)
    model.save_pretrained(folder)

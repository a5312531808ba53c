"""A tiny classifier with a real graph and a real tokenizer, made in milliseconds: words vote for their label."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from newsdesk.server.ensemble import cascade, manifest

LABELS = ["World", "Sports", "Business", "Sci/Tech"]
WORDS = {"minister": 0, "treaty": 0, "match": 1, "goal": 1, "market": 2, "shares": 2, "robot": 3, "software": 3}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
MAX_LENGTH = 32


def write(folder: Path, *, weight: float = 4.0, name: str = "tiny") -> manifest.Manifest:
    """Fill a version folder with a one-member model; `weight` is how strongly a word votes (NaN breaks it)."""
    files = folder / name
    files.mkdir(parents=True)
    _tokenizer().save(str(files / "tokenizer.json"))
    graph = _graph(weight)
    for variant in ("fp32", "int8"):  # the same graph: what tests need is two targets that agree
        onnx.save(graph, files / f"model.{variant}.onnx")

    def entry(path: str) -> manifest.File:
        return manifest.File(f"{name}/{path}", manifest.digest(files / path))

    made = manifest.Manifest(
        schema=manifest.SCHEMA,
        name="ag_news",
        labels=LABELS,
        members=[
            manifest.Member(
                name=name,
                kind="encoder",
                reader=entry("tokenizer.json"),
                graphs={variant: entry(f"model.{variant}.onnx") for variant in ("fp32", "int8")},
                max_length=MAX_LENGTH,
                pad_id=0,
            )
        ],
        cascade=[cascade.alone(name, len(LABELS))],
        target="onnxruntime:fp32",
    )
    manifest.save(made, folder)
    return made


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _graph(weight: float) -> onnx.ModelProto:
    """Masked sum of one-hot votes: Gather → Mul by the mask → ReduceSum."""
    votes = np.zeros((len(VOCABULARY), len(LABELS)), np.float32)
    for word, label in WORDS.items():
        votes[VOCABULARY.index(word), label] = weight
    votes[0] = 100.0  # padding that is not masked away would show at once
    axes = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["votes", "input_ids"], ["voted"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
            helper.make_node("Mul", ["voted", "column"], ["counted"]),
            helper.make_node("ReduceSum", ["counted", "tokens"], ["logits"], keepdims=0),
        ],
        "tiny",
        [axes(given, TensorProto.INT64, ["batch", "length"]) for given in ("input_ids", "attention_mask")],
        [axes("logits", TensorProto.FLOAT, ["batch", len(LABELS)])],
        [
            numpy_helper.from_array(votes, "votes"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "tokens"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

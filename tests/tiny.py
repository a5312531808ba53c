"""A tiny classifier with a real graph and a real tokenizer, made in milliseconds: words vote for their label."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from newsdesk.build.package.repository import render_config
from newsdesk.build.recipe import Repository
from newsdesk.server.runtime import cascade, manifest
from newsdesk.server.runtime.calibrate import Calibrator, Temperature, Uncalibrated
from newsdesk.server.runtime.cascade import NEVER, Level, Thresholds
from newsdesk.server.runtime.combine import Mean, Weighted
from newsdesk.server.runtime.files import File, digest
from newsdesk.server.runtime.manifest import Manifest, Member
from newsdesk.server.runtime.ngrams import Features, Ngrams
from newsdesk.server.runtime.unsure import Unsure

LABELS = ["World", "Sports", "Business", "Sci/Tech"]
WORDS = {"minister": 0, "treaty": 0, "match": 1, "goal": 1, "market": 2, "shares": 2, "robot": 3, "software": 3}
POISON = "poison"
"""The word for which "keen", of the cascade, computes NaN."""
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, POISON]
MAX_LENGTH = 32


def write(folder: Path, *, weight: float = 4.0, name: str = "tiny", labels: Sequence[str] = LABELS) -> Manifest:
    """Fill a version folder with a one-member model; `weight` is how strongly a word votes (NaN breaks it)."""
    return _save(folder, [_encoder(folder, name, weight)], [cascade.alone(name, len(labels))], labels=labels)


def write_cascade(folder: Path, unsure: Unsure | None = None) -> Manifest:
    """Fill a version folder with a model of three members, each surer than the one before, and a cascade of them.

    "bag" reads hashed words, "tiny" and "keen" tokens. At "fast" the first level answers who names a label twice, at
    "balanced" three times, at "best" nobody; nobody it takes for World is answered before the last.
    """
    members = [
        _bag(folder, "bag", 1.5),
        _encoder(folder, "tiny", 2.0, Temperature(2.0)),
        _encoder(folder, "keen", 4.0, poison=float("nan")),
    ]
    thresholds = {"fast": 0.8, "balanced": 0.95, "best": NEVER}
    both = {quality: 0.6 if at < 1 else NEVER for quality, at in thresholds.items()}
    return _save(
        folder,
        members,
        [
            Level(
                members=["bag"],
                combiner=Mean(),
                calibrator=Uncalibrated(),
                thresholds=Thresholds(**{quality: [NEVER, at, at, at] for quality, at in thresholds.items()}),
            ),
            Level(
                members=["bag", "tiny"],
                combiner=Weighted([1.0, 2.0]),
                calibrator=Temperature(0.5),
                thresholds=Thresholds(**{quality: [NEVER, at, at, at] for quality, at in both.items()}),
            ),
            Level(
                members=["bag", "tiny", "keen"],
                combiner=Weighted([0.0, 1.0, 3.0]),
                calibrator=Uncalibrated(),
                thresholds=Thresholds(**dict.fromkeys(thresholds, [0.0] * len(LABELS))),
            ),
        ],
        unsure,
    )


def write_model(root: Path, write_version: Callable[[Path], Manifest], name: str = "ag_news") -> Path:
    """Write a model into a repository, as the build does but for the card, and return the repository."""
    model = root / name
    made = write_version(model / "1")
    (model / "1" / "model.py").write_text(
        "from newsdesk.server.runtime.backend import TritonPythonModel  # noqa: F401\n"
    )
    (model / "labels.txt").write_text("".join(f"{label}\n" for label in made.labels))
    members = [member.name for member in made.members]
    config = render_config(Repository(model=name), len(made.labels), members, made.unsure is not None)
    (model / "config.pbtxt").write_text(config)
    return root


def _save(
    folder: Path,
    members: list[Member],
    levels: list[Level],
    unsure: Unsure | None = None,
    labels: Sequence[str] = LABELS,
) -> Manifest:
    made = Manifest(
        schema=manifest.SCHEMA,
        name="ag_news",
        labels=list(labels),
        members=members,
        cascade=levels,
        unsure=unsure,
        target="onnxruntime:fp32",
    )
    manifest.save(made, folder)
    return made


def _encoder(
    folder: Path,
    name: str,
    weight: float,
    calibrator: Calibrator = Uncalibrated(),  # noqa: B008
    poison: float = 0.0,
) -> Member:
    files = folder / name
    files.mkdir(parents=True)
    _tokenizer().save(str(files / "tokenizer.json"))
    votes = np.zeros((len(VOCABULARY), len(LABELS)), np.float32)
    for word, label in WORDS.items():
        votes[VOCABULARY.index(word), label] = weight
    votes[VOCABULARY.index(POISON)] = poison
    graphs = _graphs(folder, files, votes, ("fp32", "int8"))  # the same graph: two targets that agree
    tokenizer = _entry(folder, files / "tokenizer.json")
    return Member(
        name=name,
        kind="encoder",
        tokenizer=tokenizer,
        graphs=graphs,
        max_length=MAX_LENGTH,
        pad_id=0,
        calibrator=calibrator,
    )


def _bag(folder: Path, name: str, weight: float) -> Member:
    files = folder / name
    files.mkdir(parents=True)
    ngrams = Ngrams(Features(buckets=4096, words=(1,)))
    ngrams.save(files / "features.json")
    votes = np.zeros((ngrams.rows, len(LABELS)), np.float32)
    for (word, label), ids in zip(WORDS.items(), ngrams.encode(list(WORDS)), strict=True):
        assert not votes[ids].any(), f"{word} shares its bucket"
        votes[ids, label] = weight
    graphs = _graphs(folder, files, votes, ("fp32",))
    tokenizer = _entry(folder, files / "features.json")
    return Member(name=name, kind="ngrams", tokenizer=tokenizer, graphs=graphs, max_length=0, pad_id=0)


def _entry(folder: Path, path: Path) -> File:
    return File(str(path.relative_to(folder)), digest(path))


def _graphs(folder: Path, files: Path, votes: np.ndarray, variants: tuple[str, ...]) -> dict[str, File]:
    votes[0] = 100.0  # padding that is not masked away would show at once
    for variant in variants:
        onnx.save(_graph(votes), files / f"model.{variant}.onnx")
    return {variant: _entry(folder, files / f"model.{variant}.onnx") for variant in variants}


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def _graph(votes: np.ndarray) -> onnx.ModelProto:
    """Masked sum of the ids' votes, FP32 [ids, labels]: Gather → Mul by the mask → ReduceSum."""
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
        [axes(tensor, TensorProto.INT64, ["batch", "length"]) for tensor in ("input_ids", "attention_mask")],
        [axes("logits", TensorProto.FLOAT, ["batch", len(LABELS)])],
        [
            numpy_helper.from_array(votes, "votes"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "tokens"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

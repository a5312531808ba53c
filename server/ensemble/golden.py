"""Golden answers: what every graph of a model gave for fixed texts where it was built, to be found again elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from newsdesk.server.ensemble import calibrate, engines, targets
from newsdesk.server.ensemble.cascade import QUALITIES
from newsdesk.server.ensemble.classifier import Classifier
from newsdesk.server.ensemble.errors import ManifestError
from newsdesk.server.ensemble.manifest import Manifest, Member
from newsdesk.server.ensemble.ngrams import Ngrams
from newsdesk.server.ensemble.tokens import Tokens

TEXTS, ARRAYS = "golden.json", "golden.npz"
REFERENCE = "onnxruntime:fp32"
"""ONNX Runtime runs every variant as it is written."""
AGREEMENT = 0.95
LIMITS = {"fp32": 1e-3, "fp16": 0.02, "int8": 0.3, "int8-dynamic": 0.3}
"""How far a probability may be from the golden one of the same graph, by its precision: engines sum in other orders,
and what lies on a border of int8 is rounded to either side."""
_BATCH = 8


class _Texts(Struct, forbid_unknown_fields=True):
    texts: list[str]


@dataclass(frozen=True)
class Finding:
    """How near one engine, or the whole ensemble, comes: the largest difference of a probability, and the share of
    texts with the same label."""

    name: str
    largest: float
    agreement: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.largest <= self.limit and self.agreement >= AGREEMENT


def write(folder: Path, version: Path, manifest: Manifest, texts: list[str]) -> None:
    """Run every graph of a version folder on clean texts, through ONNX Runtime, and keep ids and logits in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    for member in manifest.members:
        ids, mask = read(member, version, texts)
        arrays |= {f"{member.name}/ids": ids, f"{member.name}/mask": mask}
        for variant, graph in member.graphs.items():
            arrays[f"{member.name}/{variant}"] = _run(engines.load(REFERENCE, version / graph.path), ids, mask)
    arrays["answers"] = _answers(Classifier(manifest, version), texts)
    np.savez_compressed(folder / ARRAYS, **arrays)  # type: ignore[arg-type]
    (folder / TEXTS).write_bytes(msgspec.json.encode(_Texts(texts)))


def check(folder: Path, version: Path, manifest: Manifest, target: str = "") -> Iterator[Finding]:
    """Yield how near each member's engine for the target comes to the golden logits, and the ensemble to its answers.

    Raises ManifestError where the golden files cannot be read or a tokenizer gives other ids, EngineError.
    """
    try:
        texts = msgspec.json.decode((folder / TEXTS).read_bytes(), type=_Texts).texts
        with np.load(folder / ARRAYS) as file:
            golden = dict(file)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise ManifestError(f"{folder}: no golden answers ({error}). Unpack the archive again.") from error
    limits = []
    for member in manifest.members:
        chosen = targets.choose(target, manifest)[member.name]
        variant = engines.TARGETS[chosen]
        ids, mask = golden[f"{member.name}/ids"], golden[f"{member.name}/mask"]
        if not all(map(np.array_equal, read(member, version, texts), (ids, mask))):
            raise ManifestError(f"member {member.name}: the tokenizer gives other ids here. Install requirements.txt.")
        logits = _run(engines.load(chosen, version / member.graphs[variant].path), ids, mask)
        limits.append(LIMITS[variant])
        yield _compare(
            f"{member.name} {chosen}",
            calibrate.softmax(logits),
            calibrate.softmax(golden[f"{member.name}/{variant}"]),
            limits[-1],
        )
    yield _compare("ensemble", _answers(Classifier(manifest, version, target), texts), golden["answers"], max(limits))


def read(member: Member, version: Path, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids and mask that a member makes of texts, INT64 [n, length of the longest]."""
    reader = version / member.reader.path
    if member.kind == "ngrams":
        ids: list = Ngrams.load(reader).encode(texts)
    else:
        ids = Tokens(reader, member.max_length).encode(texts)
    padded = np.full((len(ids), max(map(len, ids))), member.pad_id, np.int64)
    mask = np.zeros_like(padded)
    for row, one in enumerate(ids):
        padded[row, : len(one)] = one
        mask[row, : len(one)] = 1
    return padded, mask


def _run(engine: engines.Engine, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return logits, FP32 [n, labels]; short texts are not computed at the longest one's length."""
    parts = []
    for start in range(0, len(ids), _BATCH):
        some = mask[start : start + _BATCH]
        width = int(some.sum(-1).max())
        parts.append(engine(ids[start : start + _BATCH, :width], some[:, :width]).astype(np.float32))
    return np.concatenate(parts)


def _answers(classifier: Classifier, texts: list[str]) -> np.ndarray:
    """Return what the ensemble answers at its best, FP32 [n, labels]."""
    return classifier.classify(texts, np.full(len(texts), QUALITIES.index("best"))).probabilities


def _compare(name: str, found: np.ndarray, golden: np.ndarray, limit: float) -> Finding:
    largest = float(np.abs(found - golden).max())  # NaN passes no limit
    return Finding(name, largest, float((found.argmax(-1) == golden.argmax(-1)).mean()), limit)

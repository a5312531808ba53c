"""Golden answers: what every graph of a model gave for fixed texts where it was built, to be found again elsewhere."""

import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime import calibrate, engines, targets, terms
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.errors import ManifestError
from newsdesk.server.runtime.manifest import Manifest, Member
from newsdesk.server.runtime.tokens import Tokens

TEXTS, ARRAYS = "golden.json", "golden.npz"
REFERENCE = "onnxruntime:fp32"
"""The target of a variant that ONNX Runtime has no target of its own for: it takes any graph as it is written."""
AGREEMENT = 0.95
LIMITS = {"fp32": 1e-3, "fp16": 0.02}
_COARSE = 0.3
"""The greatest distance of a probability from the golden one of the same graph, by its precision. Engines sum in other
orders, and a value on a border of 8 bits is rounded to either side."""
_BATCH = 8


class _Texts(Struct, forbid_unknown_fields=True):
    texts: list[str]


@dataclass(frozen=True)
class Finding:
    """How near one engine, or the whole ensemble, comes.

    Attributes:
        name: the member and its target, or "ensemble"
        largest: difference of a probability
        agreement: the share of texts with the same label
        limit: the most that `largest` may be
        per_second: texts read, each batch for the second time
    """

    name: str
    largest: float
    agreement: float
    limit: float
    per_second: float

    @property
    def passed(self) -> bool:
        """Whether both the difference and the agreement are within their limits."""
        return self.largest <= self.limit and self.agreement >= AGREEMENT


def write(folder: Path, version: Path, manifest: Manifest, texts: list[str]) -> None:
    """Run every graph of a version folder through ONNX Runtime, and keep ids and logits.

    Args:
        folder: is made; TEXTS and ARRAYS are written there
        version: the version folder
        manifest: its manifest
        texts: clean
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Array] = {}
    for member in manifest.members:
        ids, mask = read(member, version, texts)
        arrays |= {f"{member.name}/ids": ids, f"{member.name}/mask": mask}
        for variant, graph in member.graphs.items():
            target = f"onnxruntime:{variant}" if f"onnxruntime:{variant}" in engines.TARGETS else REFERENCE
            arrays[f"{member.name}/{variant}"] = _run(engines.load(target, version / graph.path), ids, mask)
    arrays["answers"] = _answers(Classifier(manifest, version), texts)
    np.savez_compressed(folder / ARRAYS, **arrays)
    (folder / TEXTS).write_bytes(msgspec.json.encode(_Texts(texts)))


@dataclass(frozen=True)
class Golden:
    """The texts, and the arrays by name: "<member>/ids", "<member>/mask", "<member>/<variant>", "answers"."""

    texts: list[str]
    arrays: dict[str, Array]

    @classmethod
    def load(cls, folder: Path) -> "Golden":
        """Read the folder that `write` wrote.

        Raises:
            ManifestError: a file is missing or damaged.
        """
        try:
            texts = msgspec.json.decode((folder / TEXTS).read_bytes(), type=_Texts).texts
            with np.load(folder / ARRAYS) as file:
                return cls(texts, dict(file))
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, msgspec.DecodeError) as error:
            raise ManifestError(f"{folder}: no golden answers ({error}). Unpack the archive again.") from error

    def lengths(self, member: Member) -> list[int]:
        """Return how many tokens a member reads of each text."""
        lengths: list[int] = self.arrays[f"{member.name}/mask"].sum(-1).tolist()
        return lengths

    def of(self, member: Member, version: Path, target: str, against: str = "") -> Finding:
        """Compare a member's engine for a target with golden logits.

        Args:
            member: as the manifest has it
            version: the version folder
            target: what the engine is loaded for
            against: the variant whose logits are expected; empty: the target's own

        Raises:
            ManifestError: the member's tokenizer gives other ids.
            EngineError: the target cannot run here.
        """
        ids, mask = self.arrays[f"{member.name}/ids"], self.arrays[f"{member.name}/mask"]
        if not all(map(np.array_equal, read(member, version, self.texts), (ids, mask))):
            raise ManifestError(f"member {member.name}: the tokenizer gives other ids here. Install requirements.txt.")
        variant = engines.TARGETS[target]
        engine = engines.load(target, version / member.graphs[variant].path)
        _run(engine, ids, mask)
        began = time.perf_counter()
        logits = _run(engine, ids, mask)
        seconds = time.perf_counter() - began
        engine.close()
        expected = self.arrays[f"{member.name}/{against or variant}"]
        limit = LIMITS.get(against or variant, _COARSE)
        answers = calibrate.softmax(logits), calibrate.softmax(expected)
        return _compare(f"{member.name} {target}", *answers, limit, len(ids) / seconds)

    def check(self, version: Path, manifest: Manifest, target: str = "") -> Iterator[Finding]:
        """Yield how near each member's engine for the target comes, then the ensemble.

        Raises:
            ManifestError: a member's tokenizer gives other ids.
            EngineError: a target cannot run here.
        """
        chosen = targets.choose(target, manifest)
        limits = []
        for member in manifest.members:
            precision = chosen[member.name].partition(":")[2]
            variant = engines.TARGETS[chosen[member.name]]
            known = f"{member.name}/{variant}" in self.arrays
            finding = self.of(member, version, chosen[member.name], "" if known else precision)
            limits.append(finding.limit)
            yield finding
        began = time.perf_counter()
        answers = _answers(Classifier(manifest, version, target), self.texts)
        seconds = time.perf_counter() - began
        yield _compare("ensemble", answers, self.arrays["answers"], max(limits), len(self.texts) / seconds)


def read(member: Member, version: Path, texts: list[str]) -> tuple[Array, Array]:
    """Return the ids and mask that a member makes of texts, INT64 [n, length of the longest]."""
    tokenizer = version / member.tokenizer.path
    if member.kind != "encoder":
        ids: Sequence[Sequence[int] | Array] = terms.load(tokenizer).encode(texts)
    else:
        ids = Tokens(tokenizer, member.max_length).encode(texts)
    padded = np.full((len(ids), max(map(len, ids))), member.pad_id, np.int64)
    mask = np.zeros_like(padded)
    for row, of_text in enumerate(ids):
        padded[row, : len(of_text)] = of_text
        mask[row, : len(of_text)] = 1
    return padded, mask


def _run(engine: engines.Engine, ids: Array, mask: Array) -> Array:
    """Return logits, FP32 [n, labels]; short texts are not computed at the longest one's length."""
    parts = []
    for start in range(0, len(ids), _BATCH):
        some = mask[start : start + _BATCH]
        width = int(some.sum(-1).max())
        parts.append(engine(ids[start : start + _BATCH, :width], some[:, :width]).astype(np.float32))
    return np.concatenate(parts)


def _answers(classifier: Classifier, texts: list[str]) -> Array:
    """Return what the ensemble answers at its best, FP32 [n, labels]."""
    return classifier.classify(texts, np.full(len(texts), QUALITIES.index("best"))).probabilities


def _compare(name: str, answers: Array, golden: Array, limit: float, per_second: float) -> Finding:
    largest = float(np.abs(answers - golden).max())  # NaN passes no limit
    return Finding(name, largest, float((answers.argmax(-1) == golden.argmax(-1)).mean()), limit, per_second)

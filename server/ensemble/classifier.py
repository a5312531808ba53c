"""The ensemble in one process: check, clean, tokenise, plan, run, combine."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from newsdesk.server.ensemble import batching, engines
from newsdesk.server.ensemble.errors import EngineError, TextError
from newsdesk.server.ensemble.manifest import Manifest
from newsdesk.server.ensemble.text import clean
from newsdesk.server.ensemble.tokens import Tokens

MAX_TEXT_BYTES = 256 * 1024
_WARM_LENGTHS = 12, 96
"""Tokens of the shortest and the longest articles that kernels are compiled for beforehand."""


@dataclass(frozen=True)
class Answers:
    """For n texts: probabilities, FP32 [n, labels], and which member answered each."""

    probabilities: np.ndarray
    answered_by: list[str]
    real_tokens: int
    computed_tokens: int


class Classifier:
    """The members of a version folder, ready to answer."""

    def __init__(self, manifest: Manifest, folder: Path, target: str = "", threads: int = 1) -> None:
        self.labels = manifest.labels
        target = target or manifest.target
        variant = engines.TARGETS.get(target)
        member = manifest.members[0]
        if variant not in member.graphs:
            raise EngineError(
                f"target {target!r}: member {member.name} has no {variant or 'such'} graph, only "
                f"{', '.join(member.graphs)}. "
                "Choose another target, or build this one (newsdesk build)."
            )
        self._name, self._pad_id, self._most = member.name, member.pad_id, member.max_length
        self._tokens = Tokens(folder / member.tokenizer.path, member.max_length)
        self._engine = engines.load(target, folder / member.graphs[variant].path, threads)

    def warm_up(self) -> None:
        """Compile kernels for the lengths of most news, so that no request waits for them."""
        for shape in batching.shapes(*(min(length, self._most) for length in _WARM_LENGTHS)):
            self._engine(np.full(shape, self._pad_id, np.int64), np.ones(shape, np.int64))

    def classify(self, texts: list[str]) -> Answers:
        """Answer clean texts (see `read`), each as if it had come alone."""
        ids = self._tokens.encode(texts)
        groups = batching.plan([len(i) for i in ids], self._most)
        logits = np.empty((len(texts), len(self.labels)), np.float32)
        computed = 0
        batches = batching.pad(ids, groups, self._pad_id, self._most)
        for group, (padded, mask) in zip(groups, batches, strict=True):
            logits[group] = self._engine(padded, mask)
            computed += padded.size
        return Answers(softmax(logits), [self._name] * len(texts), sum(map(len, ids)), computed)


def read(raw: bytes) -> str:
    """Return the clean text of one article as it came over the wire. Raises TextError with the reason."""
    if len(raw) > MAX_TEXT_BYTES:
        raise TextError(f"{len(raw)} bytes, expected at most {MAX_TEXT_BYTES}, send a shorter text")
    try:
        text = clean(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise TextError(f"not UTF-8 (byte {error.start} is 0x{raw[error.start]:02x}), send UTF-8") from error
    if not text:
        raise TextError("empty, expected at least one visible character")
    return text


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, FP32 [n, labels]."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)

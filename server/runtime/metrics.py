"""The backend's counters for Prometheus, on Triton's own metrics endpoint.

Each call of Triton's is a message to another process and back: 0.1 ms and more, a good part of what the cheapest member
takes for a batch. So counts are gathered here and handed over twice a second at most; Triton's histograms, which take
one observation at a time, would cost a message each.
"""

import time
from collections import defaultdict

import numpy as np
import triton_python_backend_utils as pb_utils

from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.classifier import BatchAnswers
from newsdesk.server.runtime.drift_metrics import DriftMetrics

EVERY_SECONDS = 0.5
LEVEL = "stage"
"""The label that names a level of the cascade. Metrics keep their names: dashboards and alerts read them."""
FAILURES = "text", "quality", "engine", "cancelled"
_FAMILIES = {
    "newsdesk_real_tokens_total": "Tokens that encoders read, of the texts answered",
    "newsdesk_computed_tokens_total": (
        "Tokens computed for them, padding among them; over the real ones, this is the padding waste"
    ),
    "newsdesk_answers_total": "Texts answered, by the level of the cascade that answered and the quality asked for",
    "newsdesk_stage_texts_total": "Texts that the members which a level of the cascade adds were asked for",
    "newsdesk_stage_batches_total": "Batches that those texts came in",
    "newsdesk_stage_seconds_total": "Time that those members took",
    "newsdesk_failures_total": (
        'Requests that failed, by kind: "text" or "quality" refused, "engine" trouble, or "cancelled" midway'
    ),
}

Key = tuple[str, ...]


class Metrics:
    """The counters of one model; those of every backend process add up.

    All are there from the start: a rate needs the zero before the first.
    """

    def __init__(self, place: dict[str, str], levels: list[str], drift: DriftMetrics | None = None) -> None:
        """`place` are the labels that all carry: the model and its version; `drift` is told of every answer."""
        self._levels, self._drift = levels, drift
        self._families = {  # kept: a metric whose family is collected raises
            name: pb_utils.MetricFamily(name=name, description=about, kind=pb_utils.MetricFamily.COUNTER)
            for name, about in _FAMILIES.items()
        }
        labels: dict[Key, dict[str, str]] = {("real_tokens",): {}, ("computed_tokens",): {}}
        for level in levels:
            labels |= {(f"stage_{what}", level): {LEVEL: level} for what in ("texts", "batches", "seconds")}
            labels |= {("answers", level, quality): {LEVEL: level, "quality": quality} for quality in QUALITIES}
        labels |= {("failures", kind): {"kind": kind} for kind in FAILURES}
        self._metrics = {
            key: self._families[f"newsdesk_{key[0]}_total"].Metric(labels=place | own) for key, own in labels.items()
        }
        self._gathered: defaultdict[Key, float] = defaultdict(float)
        self._due = 0.0

    def answered(self, answers: BatchAnswers, quality: Array, texts: list[str]) -> None:
        """Count a batch of n texts.

        Args:
            answers: to them
            quality: of each, INT [n] into QUALITIES
            texts: as they were read
        """
        gathered, work = self._gathered, answers.work
        gathered["real_tokens",] += work.real_tokens
        gathered["computed_tokens",] += work.computed_tokens
        for level, level_work in work.levels.items():
            name = self._levels[level]
            gathered["stage_texts", name] += level_work.texts
            gathered["stage_batches", name] += 1
            gathered["stage_seconds", name] += level_work.seconds
        answered = np.bincount(answers.levels * len(QUALITIES) + quality)
        for place in answered.nonzero()[0].tolist():
            level, asked = divmod(place, len(QUALITIES))
            gathered["answers", self._levels[level], QUALITIES[asked]] += int(answered[place])
        if self._drift:
            self._drift.add(answers, quality, texts)

    def failed(self, kind: str, requests: int = 1) -> None:
        """Count requests that failed; kind is one of FAILURES."""
        self._gathered["failures", kind] += requests

    def hand_over(self, now: bool = False) -> None:
        """Give Triton what has gathered, if it is time (every EVERY_SECONDS) or `now`."""
        if self._drift:
            self._drift.hand_over(now)
        if not now and time.monotonic() < self._due:
            return
        for key, count in self._gathered.items():
            self._metrics[key].increment(count)
        self._gathered.clear()
        self._due = time.monotonic() + EVERY_SECONDS

"""What the backend tells Prometheus, through Triton's own metrics endpoint."""

from collections import Counter
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from newsdesk.server.ensemble.cascade import QUALITIES
from newsdesk.server.ensemble.classifier import Answers

BATCH_TEXTS = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]
STAGE_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10]
_COUNTER, _HISTOGRAM = "COUNTER", "HISTOGRAM"  # the stub gives pb_utils its classes after this module is imported
_FAMILIES = {
    "newsdesk_real_tokens_total": (_COUNTER, "Tokens that encoders read, of the texts answered"),
    "newsdesk_computed_tokens_total": (
        _COUNTER,
        "Tokens computed for them, padding among them; over the real ones, this is the padding waste",
    ),
    "newsdesk_answers_total": (_COUNTER, "Texts answered, by the stage that answered and the quality asked for"),
    "newsdesk_failures_total": (
        _COUNTER,
        'Requests that failed, by kind: "text" or "quality" refused, or "engine" trouble',
    ),
    "newsdesk_batch_texts": (_HISTOGRAM, "Texts that were answered together"),
    "newsdesk_stage_seconds": (_HISTOGRAM, "Time that a batch spent in a stage's members"),
}


class Metrics:
    """The families of one model; those of every backend process add up."""

    def __init__(self, model: str, version: str, stages: list[str]) -> None:
        self._place, self._stages = {"model": model, "version": version}, stages
        self._families = {  # kept: a metric whose family is collected raises
            name: pb_utils.MetricFamily(name=name, description=about, kind=getattr(pb_utils.MetricFamily, kind))
            for name, (kind, about) in _FAMILIES.items()
        }
        self._metrics: dict[tuple[str, ...], Any] = {}
        for kind in "text", "quality", "engine":
            self._metric("newsdesk_failures_total", kind=kind)  # a rate needs the zero before the first

    def answered(self, answers: Answers, quality: np.ndarray) -> None:
        """Count a batch; quality INT [n] into QUALITIES."""
        work = answers.work
        self._metric("newsdesk_real_tokens_total").increment(work.real_tokens)
        self._metric("newsdesk_computed_tokens_total").increment(work.computed_tokens)
        self._metric("newsdesk_batch_texts", BATCH_TEXTS).observe(len(quality))
        for stage, seconds in work.seconds.items():
            self._metric("newsdesk_stage_seconds", STAGE_SECONDS, stage=self._stages[stage]).observe(seconds)
        for (stage, place), count in Counter(zip(answers.stages.tolist(), quality.tolist(), strict=True)).items():
            labels = {"stage": self._stages[stage], "quality": QUALITIES[place]}
            self._metric("newsdesk_answers_total", **labels).increment(count)

    def failed(self, kind: str, requests: int = 1) -> None:
        self._metric("newsdesk_failures_total", kind=kind).increment(requests)

    def _metric(self, family: str, buckets: list[float] | None = None, **labels: str) -> Any:
        key = family, *labels.values()
        if key not in self._metrics:
            given = {"labels": {**self._place, **labels}} | ({"buckets": buckets} if buckets else {})
            self._metrics[key] = self._families[family].Metric(**given)
        return self._metrics[key]

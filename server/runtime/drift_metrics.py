"""The backend's metrics of drift, where the manifest has a reference: histograms of the answers, and their indices.

Every counter and gauge is a message to Triton's process, so they are handed over every few seconds. Counters of all
backend processes add up. A gauge would be the last process's, so that each has one of its own, by `process`.
"""

import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from newsdesk.server.contract import OWN_TEXTS
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.classifier import BatchAnswers
from newsdesk.server.runtime.drift import Drift, Index
from newsdesk.server.runtime.reference import CONFIDENCE, WORDS

EVERY_SECONDS = 5.0
_COUNTERS = {
    "newsdesk_labels_total": "Texts answered, by their label",
    "newsdesk_confidence_bucket": "Texts answered with a top probability of at most `le`",
    "newsdesk_words_bucket": "Texts answered that have at most `le` words",
}
_GAUGES = {
    "newsdesk_drift_index": (
        "Population stability index of the last answers of a process against the reference, of labels, confidence, "
        "words and the share of unknown words"
    ),
    "newsdesk_drift_by_chance": "The index that answers like the reference's stay below in 95 of 100 cases",
}
_BOUNDS = {"newsdesk_confidence_bucket": CONFIDENCE, "newsdesk_words_bucket": WORDS}
_OF = {"newsdesk_labels_total": "labels", "newsdesk_confidence_bucket": "confidence", "newsdesk_words_bucket": "words"}


class DriftMetrics:
    """A process's metrics of its answers; `place` are the labels that all of them carry."""

    def __init__(self, drift: Drift, labels: list[str], place: dict[str, str], process: str) -> None:
        self._drift, self._gauge_labels = drift, place | {"process": process}
        self._families = {  # kept: a metric whose family is collected raises
            name: pb_utils.MetricFamily(name=name, description=about, kind=kind)
            for abouts, kind in ((_COUNTERS, pb_utils.MetricFamily.COUNTER), (_GAUGES, pb_utils.MetricFamily.GAUGE))
            for name, about in abouts.items()
        }
        self._counters = {
            name: [self._families[name].Metric(labels=place | own) for own in _own_labels(name, labels)]
            for name in _COUNTERS
        }
        self._gauges: dict[tuple[str, str], Any] = {}
        self._due = 0.0

    def add(self, answers: BatchAnswers, quality: Array, texts: list[str]) -> None:
        """Note a batch of n texts. newsdesk's own texts do not count.

        Args:
            answers: to them
            quality: of each, INT [n] into QUALITIES
            texts: as they were read
        """
        own = not OWN_TEXTS.isdisjoint(texts)
        among = np.array([text not in OWN_TEXTS for text in texts]) if own else None
        self._drift.add(answers, quality, among)

    def hand_over(self, now: bool = False) -> None:
        """Give Triton what has gathered, if it is time (every EVERY_SECONDS), a window is full, or `now`."""
        if not (now or self._drift.due or time.monotonic() >= self._due):
            return
        counts = self._drift.take()
        for name, metrics in self._counters.items():
            of_bins = counts[_OF[name]]
            for metric, count in zip(metrics, of_bins.cumsum() if name in _BOUNDS else of_bins, strict=True):
                if count:
                    metric.increment(int(count))
        for name, index in self._drift.indices().items():
            self._set(name, index)
        self._due = time.monotonic() + EVERY_SECONDS

    def _set(self, histogram: str, index: Index) -> None:
        """Set a histogram's gauges. They are made with their first value, before which there is none to show."""
        for family, value in zip(_GAUGES, (index.value, index.by_chance), strict=True):
            if (family, histogram) not in self._gauges:
                labels = self._gauge_labels | {"histogram": histogram}
                self._gauges[family, histogram] = self._families[family].Metric(labels=labels)
            self._gauges[family, histogram].set(value)


def _own_labels(counter: str, labels: list[str]) -> list[dict[str, str]]:
    """Return the labels by which a counter's metrics differ, one each bin."""
    if counter not in _BOUNDS:
        return [{"label": label} for label in labels]
    return [{"le": f"{bound:g}"} for bound in _BOUNDS[counter]] + [{"le": "+Inf"}]

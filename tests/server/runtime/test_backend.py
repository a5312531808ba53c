"""Triton's Python backend without Triton: its module of utilities is stood in for."""

import importlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from newsdesk.server.contract import PROBE
from newsdesk.server.runtime import manifest, reference
from newsdesk.server.runtime.cascade import ABSENT
from newsdesk.server.runtime.classifier import BatchAnswers, Work
from tests import tiny

FINITE = [0.1, 0.7, 0.1, 0.1]


class Metric:
    """Counts by the labels of it."""

    counts: dict[tuple[str, ...], float]

    def __init__(self, name: str, labels: dict[str, str], counts: dict[tuple[str, ...], float]) -> None:
        self._key, self._counts = (name, *(labels[key] for key in labels if key not in ("model", "version"))), counts

    def increment(self, count: float) -> None:
        self._counts[self._key] = self._counts.get(self._key, 0) + count

    def set(self, value: float) -> None:
        self._counts[self._key] = value


class Utilities(SimpleNamespace):
    """The part that the backend calls of `triton_python_backend_utils`; a request is a dictionary of its inputs."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, ...], float] = {}
        counts = self.counts

        class MetricFamily:
            COUNTER, GAUGE = 0, 1

            def __init__(self, name: str, description: str, kind: int) -> None:
                self._name = name

            def Metric(self, labels: dict[str, str]) -> Metric:
                return Metric(self._name, labels, counts)

        class TritonError(SimpleNamespace):
            INVALID_ARG, INTERNAL = "INVALID_ARG", "INTERNAL"

            def __init__(self, message: str, code: str) -> None:
                super().__init__(message=message, code=code)

        super().__init__(
            counts=counts,
            MetricFamily=MetricFamily,
            TritonError=TritonError,
            Tensor=lambda name, array: (name, array),
            InferenceResponse=lambda outputs=(), error=None: SimpleNamespace(outputs=dict(outputs), error=error),
            get_input_tensor_by_name=lambda request, name: request.inputs.get(name),
        )


def request(*texts: str) -> Any:
    array = np.array([[text.encode()] for text in texts], np.object_)
    return SimpleNamespace(
        inputs={"TEXT": SimpleNamespace(as_numpy=lambda: array)},
        requested_output_names=lambda: ["LABEL", "PROBABILITIES"],
    )


@pytest.fixture
def utilities(monkeypatch: pytest.MonkeyPatch) -> Utilities:
    utilities = Utilities()
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utilities)  # type: ignore[arg-type]
    for name in ("backend", "metrics", "drift_metrics"):
        monkeypatch.delitem(sys.modules, f"newsdesk.server.runtime.{name}", raising=False)
    return utilities


def answers_with(*members: list[float]) -> BatchAnswers:
    """Return finite answers of the first level to as many texts; each member's own answer is given, one a text."""
    count = len(members)
    return BatchAnswers(
        np.array([FINITE] * count, np.float32),
        np.zeros(count, np.int64),
        np.ones(count, np.int32),
        np.array(members, np.float32)[:, None],
        np.full(count, 2, np.int64),
        np.zeros(count),
        Work(),
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_members_nan_fails_its_request_behind_a_finite_answer(
    value: float, utilities: Utilities, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The combiner had an answer for it; the text's request fails all the same, and the others are answered."""
    backend = importlib.import_module("newsdesk.server.runtime.backend")
    tiny.write(tmp_path / "1")
    answers = answers_with(FINITE, [0.2, value, 0.2, 0.2], [ABSENT] * 4)
    closed: list[bool] = []
    classifier = SimpleNamespace(
        labels=tiny.LABELS,
        levels=["tiny"],
        warm_up=lambda: None,
        classify=lambda texts, qualities: answers,
        close=lambda: closed.append(True),
    )
    monkeypatch.setattr(backend, "Classifier", lambda *_: classifier)
    model = backend.TritonPythonModel()
    config = '{"parameters": {}}'
    place = {"model_repository": str(tmp_path), "model_version": "1", "model_name": "ag_news", "model_config": config}
    model.initialize(place)
    good, bad, absent = model.execute([request("a goal"), request("a match"), request("a treaty")])
    assert (bad.error.message, bad.error.code) == ("newsdesk computed no finite answer", "INTERNAL")
    assert bad.outputs == {}
    for answered in good, absent:
        assert answered.error is None
        assert answered.outputs["LABEL"].tolist() == [[b"Sports"]]
        np.testing.assert_allclose(answered.outputs["PROBABILITIES"], [FINITE])
    model.finalize()
    assert utilities.counts["newsdesk_failures_total", "engine"] == 1


def initialised(folder: Path) -> Any:
    """Return a model of a version folder, whose answers are real."""
    backend = importlib.import_module("newsdesk.server.runtime.backend")
    model = backend.TritonPythonModel()
    model.initialize(
        {
            "model_repository": str(folder.parent),
            "model_version": folder.name,
            "model_name": "ag_news",
            "model_instance_name": "ag_news_0_0",
            "model_config": '{"parameters": {"drift_window": {"string_value": "300"}}}',
        }
    )
    return model


def test_answers_are_told_by_label_confidence_and_length_where_there_is_a_reference(
    utilities: Utilities, tmp_path: Path
) -> None:
    made = tiny.write(tmp_path / "1")
    evenly = np.repeat(np.eye(4), 100, axis=0)
    by_quality = dict.fromkeys(("fast", "balanced", "best"), evenly)
    expected = reference.measure(by_quality, np.full(400, 2), np.zeros(400))
    manifest.save(replace(made, reference=expected), tmp_path / "1")
    model = initialised(tmp_path / "1")
    model.execute([request(*["a goal"] * 150, PROBE, *["market shares"] * 50), request("robot " * 60)])
    model.finalize()
    counts = utilities.counts
    told = {key[1]: count for key, count in counts.items() if key[0] == "newsdesk_labels_total"}
    assert told == {"Sports": 150, "Business": 50, "Sci/Tech": 1}
    assert counts["newsdesk_words_bucket", "4"] == counts["newsdesk_words_bucket", "48"] == 200
    assert counts["newsdesk_words_bucket", "64"] == counts["newsdesk_words_bucket", "+Inf"] == 201
    assert counts["newsdesk_confidence_bucket", "+Inf"] == 201
    index = counts["newsdesk_drift_index", "ag_news_0_0", "labels"]
    shares = np.array([0.001, 150 / 201, 50 / 201, 1 / 201])
    assert index == pytest.approx(((shares - 0.25) * np.log(shares / 0.25)).sum())
    assert counts["newsdesk_drift_by_chance", "ag_news_0_0", "labels"] < 0.1


def test_without_a_reference_nothing_is_told_of_drift(utilities: Utilities, tmp_path: Path) -> None:
    tiny.write(tmp_path / "1")
    model = initialised(tmp_path / "1")
    model.execute([request("a goal")])
    model.finalize()
    assert utilities.counts["newsdesk_answers_total", "tiny", "balanced"] == 1
    assert not [name for name, *_ in utilities.counts if re.search("drift|labels|confidence|words", name)]

"""The choice among measured targets, and answers in company, by hand: no graph is compiled."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from newsdesk.build.compile import targets, verify
from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.metrics import TargetMetrics
from newsdesk.build.compile.predict import Examples, probabilities
from newsdesk.build.errors import BuildError, VerificationError
from newsdesk.build.recipe import Compile, Verify
from newsdesk.server.runtime import engines
from newsdesk.server.runtime.batching import FreeShapes

FIGURES: dict[str, TargetMetrics] = {
    "openvino:int8": TargetMetrics(variant="int8", passed=False, articles_per_second=1330.0),
    "onnxruntime:int8": TargetMetrics(variant="int8", passed=True, articles_per_second=437.0),
    "openvino:bf16": TargetMetrics(variant="fp32", passed=False, articles_per_second=900.0),
    "openvino:fp32": TargetMetrics(variant="fp32", passed=True, articles_per_second=577.0),
    "onnxruntime:fp32": TargetMetrics(variant="fp32", passed=True, articles_per_second=341.0),
    "onnxruntime:int8-dynamic": TargetMetrics(variant="int8-dynamic", passed=False, error="cannot be loaded"),
}


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (["int8"], "onnxruntime:int8"),  # openvino:int8 is three times as fast, and was refused
        ([], "openvino:fp32"),
        (["fp32"], "openvino:fp32"),
        (["int8", "fp32"], "openvino:fp32"),
    ],
)
def test_the_fastest_of_those_that_passed_is_chosen(wanted: list[str], chosen: str) -> None:
    told: list[str] = []
    assert targets.choose(FIGURES, wanted, told.append) == chosen
    assert told == []


def test_where_no_wanted_variant_passed_the_fastest_that_did_serves() -> None:
    told: list[str] = []
    assert targets.choose(FIGURES, ["int8-dynamic"], told.append) == "openvino:fp32"
    assert told == ["none of the wanted variants (int8-dynamic) passed; another precision serves"]
    refused = {target: msgspec.structs.replace(figures, passed=False) for target, figures in FIGURES.items()}
    with pytest.raises(BuildError, match="no target passed on this machine"):
        targets.choose(refused, ["int8"], told.append)


def sociable(by: float) -> engines.Engine:
    """Return an engine that gives label 0 the probability 0.5 to a text alone, and `by` more in company."""

    class Sociable(engines.Engine):
        def shapes(self, most: int) -> FreeShapes:
            return FreeShapes(most)

        def submit(self, ids: np.ndarray, mask: np.ndarray) -> Callable[[], np.ndarray]:
            first = 0.5 + (by if len(ids) > 1 else 0.0)
            return lambda: np.log(np.array([[first, 1 - first]] * len(ids)), dtype=np.float32)

        def close(self) -> None:
            pass

    return Sociable()


def examples(rows: int) -> Examples:
    return Examples([[2, 5, 3]] * rows, np.ones(rows, int), np.zeros(rows, int), 0, 8)


@pytest.fixture
def loading(monkeypatch: pytest.MonkeyPatch) -> Callable[[engines.Engine], None]:
    """Let every target be run by one engine."""

    def by(engine: engines.Engine) -> None:
        monkeypatch.setattr(engines, "load", lambda *_: engine)

    return by


@pytest.mark.parametrize(("most", "passed"), [(0.2, True), (0.19, False)])
def test_what_company_changes_is_measured_and_limited(
    most: float, passed: bool, loading: Callable[[engines.Engine], None]
) -> None:
    loading(sociable(0.2))
    of = examples(16)
    gate = Gate(of, np.array([[0.7, 0.3]] * 16), 0.0, 1.0)
    settings = Compile(rows=16, rounds=1, max_company_difference=most + 1e-6)
    figures = targets.measure({"fp32": Path("model.fp32.onnx")}, gate, settings)["onnxruntime:fp32"]
    assert figures.company_difference == 0.2
    assert figures.passed is passed


@pytest.mark.parametrize("target", ["onnxruntime:fp32", "a target of another machine"])
def test_a_target_that_answers_otherwise_in_company_fails_its_verification(
    target: str, loading: Callable[[engines.Engine], None]
) -> None:
    """Each answer alone is the original's; the same texts in groups are 0.2 off."""
    loading(sociable(0.2))
    of = examples(16 + len(verify.EXTREMES))
    original = probabilities(sociable(0.2), of, "the original", alone=True)
    with pytest.raises(VerificationError, match=r"are within 0\.2000 \(worst: row"):
        verify.verify({target: Path("model.onnx")}, of, original, Verify())
    loading(sociable(0.0005))
    figures = verify.verify({target: Path("model.onnx")}, of, original, Verify())[target]
    assert figures.largest_in_company == pytest.approx(0.0005, abs=1e-6)
    assert figures.largest == 0.0

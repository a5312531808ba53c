"""Verification fails the build on NaN, Inf and differences, and says where (notes 83, 90)."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from newsdesk.build.compile import verify as verification
from newsdesk.build.compile.predict import Examples
from newsdesk.build.compile.verify import EXTREMES, compare, limits, verify
from newsdesk.build.data.rows import Row
from newsdesk.build.errors import VerificationError
from newsdesk.build.evaluation.metrics import softmax
from newsdesk.build.recipe import Verify
from newsdesk.build.training import trainer


@pytest.fixture(scope="module")
def asked(exported, rows) -> tuple[Examples, np.ndarray]:
    """Forty sentences and the extremes, and what the original says of them."""
    texts = [row.text for row in rows[:40]] + [*EXTREMES.values()]
    examples = exported().encode([Row(text, 0) for text in texts], cut=True)
    return examples, softmax(trainer.logits(exported().checkpoint, texts, 64))


def damaged(graph: Path, target: Path, name: str, change: float) -> Path:
    model = onnx.load(graph)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] += np.float32(change)
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, target)
    return target


def test_the_exported_graph_passes_on_every_engine(exported, asked):
    graphs = dict.fromkeys(["openvino:fp32", "openvino:bf16", "onnxruntime:fp32"], exported().graph)
    figures = verify(graphs, *asked, Verify())
    assert figures["onnxruntime:fp32"].largest < 1e-5
    assert figures["onnxruntime:fp32"].largest_extreme < 1e-5
    assert figures["onnxruntime:fp32"].largest_in_company < 1e-5
    assert figures["openvino:bf16"].agreement > 0.9


@pytest.mark.parametrize("change", [np.nan, np.inf])
def test_a_weight_that_is_no_number_fails(change, exported, asked, tmp_path: Path):
    broken = damaged(exported().graph, tmp_path / "broken.onnx", "classifier.bias", change)
    with pytest.raises(VerificationError, match="onnxruntime:fp32: NaN or Inf for row 0"):
        verify({"onnxruntime:fp32": broken}, *asked, Verify())


def test_a_tampered_weight_fails(exported, asked, tmp_path: Path):
    tampered = damaged(exported().graph, tmp_path / "tampered.onnx", "classifier.bias", 0.1)
    with pytest.raises(VerificationError, match=r"onnxruntime:fp32: 100% of 40 rows should be within 0.001"):
        verify({"onnxruntime:fp32": tampered}, *asked, Verify())


ORIGINAL = np.tile([0.8, 0.1, 0.1], (100 + len(EXTREMES), 1))


def moved(rows: slice | int, by: float) -> np.ndarray:
    probabilities = ORIGINAL.copy()
    probabilities[rows, 0] -= by
    probabilities[rows, 1] += by
    return probabilities


def test_int8_may_swing_on_a_few_rows_but_not_on_many():
    assert compare("openvino:int8", moved(slice(0, 2), 0.3), ORIGINAL, 100, Verify()).largest == pytest.approx(0.3)
    with pytest.raises(VerificationError, match=r"98% of 100 rows should be within 0\.1"):
        compare("openvino:int8", moved(slice(0, 5), 0.3), ORIGINAL, 100, Verify())


def test_int8_must_name_the_same_label():
    lax = Verify(int8_tolerance=0.9)
    with pytest.raises(VerificationError, match=r"names the original's label on 95.00% of 100 rows, expected 98.00%"):
        compare("onnxruntime:int8", moved(slice(0, 5), 0.6), ORIGINAL, 100, lax)


def test_an_extreme_over_its_limit_fails_and_is_named():
    with pytest.raises(VerificationError, match=r"differs by 0.5000 on 'emoji', expected at most 0.3"):
        compare("openvino:int8", moved(100 + [*EXTREMES].index("emoji"), 0.5), ORIGINAL, 100, Verify())


def test_one_row_over_the_limit_fails_a_float_target():
    with pytest.raises(VerificationError, match="worst: row 7"):
        compare("openvino:fp32", moved(7, 0.01), ORIGINAL, 100, Verify())
    compare("openvino:bf16", moved(7, 0.01), ORIGINAL, 100, Verify())


def test_a_nan_in_an_extreme_fails_and_is_named():
    spoilt = ORIGINAL.copy()
    spoilt[100] = np.nan
    with pytest.raises(VerificationError, match="NaN or Inf for one token"):
        compare("openvino:int8", spoilt, ORIGINAL, 100, Verify())


def test_a_row_is_measured_as_the_limits_ask():
    """Articles 7 and 8 swing by 0.02 and 0.01, an extreme by 0.05: on 100 rows the mean is 0.0003."""
    answers = moved(7, 0.02) + moved(8, 0.01) + moved(103, 0.05) - 2 * ORIGINAL
    lax = Verify(int8_outliers=0.015, int8_min_agreement=1.0)
    differences = compare("openvino:int8", answers, ORIGINAL, 100, lax)
    assert differences.largest == pytest.approx(0.02)
    assert differences.largest_extreme == pytest.approx(0.05)
    assert differences.mean == pytest.approx(0.0003)
    # The place of 98.5 % among 100 rows, counted from 0, is 97.515: in the middle of 0 and 0.01.
    assert differences.quantile == pytest.approx(0.01 * 0.515)
    assert (differences.agreement, differences.limits) == (1.0, limits("openvino:int8", lax))


def test_what_is_just_within_its_limits_passes():
    original = np.tile([0.75, 0.25], (100 + len(EXTREMES), 1))
    answers = original.copy()
    answers[[0, 100]] = [0.5, 0.5]  # binary fractions: they differ by just 0.25
    assert compare("openvino:fp32", answers, original, 100, Verify(float_tolerance=0.25)).largest == 0.25


def test_every_target_is_asked_in_company_and_alone(monkeypatch: pytest.MonkeyPatch):
    """A row that says another thing in company than alone shows it; both are held to the limits."""
    asked = []
    answers = {"together": moved(3, 0.0005), "alone": moved(3, 0.0002)}

    def answer(engine: str, examples: object, title: str, alone: bool = False) -> np.ndarray:
        asked.append((engine, title, alone))
        return answers["alone" if alone else "together"]

    monkeypatch.setattr(verification, "probabilities", answer)
    monkeypatch.setattr(verification.engines, "load", lambda target, graph: f"{target} of {graph}")
    examples = SimpleNamespace(labels=np.zeros(len(ORIGINAL)))
    graphs = {"openvino:fp32": Path("a.onnx"), "tensorrt:fp32": Path("b.onnx")}
    figures = verify(graphs, examples, ORIGINAL, Verify())  # type: ignore[arg-type]
    assert asked == [
        ("openvino:fp32 of a.onnx", "openvino:fp32, together", False),
        ("openvino:fp32 of a.onnx", "openvino:fp32, alone", True),
        ("onnxruntime:fp32 of b.onnx", "tensorrt:fp32, together", False),
        ("onnxruntime:fp32 of b.onnx", "tensorrt:fp32, alone", True),
    ]
    assert [*figures] == [*graphs]
    for differences in figures.values():
        assert differences.largest == pytest.approx(0.0002)
        assert differences.largest_in_company == pytest.approx(0.0003)
    for wrong in answers:
        answers[wrong] = moved(3, 0.01)
        with pytest.raises(VerificationError, match="worst: row 3"):
            verify(graphs, examples, ORIGINAL, Verify())  # type: ignore[arg-type]
        answers[wrong] = moved(3, 0.0)


@pytest.mark.parametrize(
    ("target", "real"),
    [("openvino:fp32", 1e-3), ("openvino:bf16", 0.02), ("onnxruntime:fp16", 0.02), ("onnxruntime:int8-dynamic", 0.1)],
)
def test_each_precision_has_its_limit(target: str, real: float):
    assert limits(target, Verify()).real == real

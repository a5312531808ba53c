"""Ranges are learned from real rows, and from nothing else (note 86)."""

import numpy as np
import onnx
import pytest

from newsdesk.build.compile import calibration, explicit, int8
from newsdesk.build.errors import BuildError
from newsdesk.server.runtime import engines

RANDOM = np.random.default_rng(0)


def random_rows(count: int = 60) -> list[list[int]]:
    return [[2, *RANDOM.integers(4, 30000, 46).tolist(), 3] for _ in range(count)]


def test_real_rows_pass(calibration_ids):
    calibration.check(calibration_ids)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (random_rows(31), "31 calibration rows; expected at least 32"),
        (random_rows(1) * 60, "60 calibration rows, but only 1 different ones"),
        (random_rows(), "most common tokens are 0.*the ids look random"),
        (RANDOM.integers(0, 38, (60, 20)).tolist(), "no tokenizer gave these ids"),
    ],
)
@pytest.mark.parametrize(
    "quantiser",
    [lambda *arguments: int8.to_int8(*arguments, 0.5), lambda *arguments: explicit.quantise(*arguments, explicit.FP8)],
)
def test_what_is_not_to_be_learned_from_is_refused(quantiser, rows, complaint, exported, tmp_path):
    with pytest.raises(BuildError, match=complaint):
        quantiser(exported().graph, tmp_path / "never.onnx", rows)
    assert not (tmp_path / "never.onnx").exists()


def test_ranges_are_the_largest_values_of_all_rows(exported, calibration_ids):
    model = onnx.load(exported().graph)
    ranges = calibration.ranges(model, calibration_ids[:5])
    engine = engines.load("onnxruntime:fp32", exported().graph)
    ids = [np.array([row]) for row in calibration_ids[:5]]
    assert ranges["logits"] == pytest.approx(max(np.abs(engine(row, np.ones_like(row))).max() for row in ids))
    assert model.graph.output[0].name == "logits"
    assert set(calibration.ranges(model, calibration_ids[:1], {"logits"})) == {"logits"}

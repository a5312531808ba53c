"""fp16 that keeps in fp32 what overflows (notes 74, 82, 83)."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from newsdesk.build.compile import half
from newsdesk.build.compile.metrics import Conversion
from newsdesk.server.runtime import engines
from tests.build.encoders import FAMILIES

PRODUCT = "/bert/encoder/layer.0/output/dense/MatMul"


def run(graph: Path, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return engines.load("onnxruntime:fp32", graph)(ids, mask)


def evaluate(graph: Path, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Compute in fp16 indeed, node by node: ONNX Runtime on a processor leaves casts out and stays in fp32 between."""
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(onnx.load(graph)).run(["logits"], feed)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_half_gives_numbers_for_rows_of_padding(family, exported, batch, tmp_path: Path):
    half.to_half(exported(family).graph, tmp_path / "half.onnx")
    logits = run(tmp_path / "half.onnx", *batch)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    expected = run(exported(family).graph, *batch)
    np.testing.assert_allclose(logits[:3], expected[:3], atol=0.01)


def test_half_stays_finite_on_long_rows(exported, tmp_path: Path):
    half.to_half(exported().graph, tmp_path / "half.onnx")
    ids = np.full((2, 512), 9)
    mask = np.ones_like(ids)
    mask[1, 1:] = 0
    assert np.isfinite(run(tmp_path / "half.onnx", ids, mask)).all()


@pytest.fixture
def overflowing(exported, tmp_path: Path) -> Path:
    """The tiny bert with values of a million in front of a product, and the same answers as before."""
    model = onnx.load(exported().graph)
    product = next(node for node in model.graph.node if node.name == PRODUCT)
    at = [*model.graph.node].index(product)
    source = product.input[0]
    model.graph.initializer.append(numpy_helper.from_array(np.array(1e3, np.float32), "thousand"))
    for name in ("large", "larger"):
        model.graph.node.insert(at, helper.make_node("Mul", [source, "thousand"], [f"{name}/made"], name))
        source, at = f"{name}/made", at + 1
    product = next(node for node in model.graph.node if node.name == PRODUCT)
    product.input[0] = source
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == product.input[1])
    small = (numpy_helper.to_array(weight) / 1e6).astype(np.float32)
    weight.CopyFrom(numpy_helper.from_array(small, weight.name))
    onnx.save(model, tmp_path / "overflowing.onnx")
    return tmp_path / "overflowing.onnx"


def test_what_overflows_is_found_named_and_kept_in_fp32(overflowing, exported, calibration_ids, batch, tmp_path: Path):
    ids, mask = (part[:3] for part in batch)
    expected = run(exported().graph, ids, mask)
    np.testing.assert_allclose(run(overflowing, ids, mask), expected, atol=1e-5)
    half.to_half(overflowing, tmp_path / "plain.onnx")
    assert not np.isfinite(evaluate(tmp_path / "plain.onnx", ids, mask)).all()

    large = half.too_large(overflowing, calibration_ids)
    assert set(large) == {"larger", PRODUCT}
    assert large["larger"] > 1e5
    half.to_half(overflowing, tmp_path / "kept.onnx", large)
    np.testing.assert_allclose(evaluate(tmp_path / "kept.onnx", ids, mask), expected, atol=0.01)


def test_nothing_is_kept_where_nothing_overflows(exported, calibration_ids, tmp_path: Path):
    assert half.too_large(exported().graph, calibration_ids) == {}
    assert half.to_half(exported().graph, tmp_path / "half.onnx") == Conversion(kept_float=[])
    weights = [t for t in onnx.load(tmp_path / "half.onnx").graph.initializer if len(t.dims) == 2]
    assert {t.data_type for t in weights} == {TensorProto.FLOAT16}

"""Explicit Q/DQ pairs: fp8 for Ada, Hopper and later, int8 where NNCF gives up; checked here by ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from newsdesk.build.compile import explicit, half, qdq
from newsdesk.build.compile.predict import probabilities
from newsdesk.build.errors import BuildError
from newsdesk.server.runtime import engines
from tests.build.encoders import FAMILIES
from tests.tiny import write as write_votes


def run(graph: Path, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return engines.load("onnxruntime:fp32", graph)(ids, mask)


@pytest.fixture
def quantised(exported, calibration_ids, tmp_path: Path) -> Path:
    explicit.quantise(exported().graph, tmp_path / "fp8.onnx", calibration_ids, explicit.FP8)
    return tmp_path / "fp8.onnx"


def test_weights_and_activations_are_e4m3(quantised: Path, exported):
    model = onnx.load(quantised)
    named = onnx.load(exported().graph)
    half.name_nodes(named)
    products = explicit.products(named)
    assert len(products) == 14  # 2 layers of 6, the pooler and the classifier
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    assert all(tensors[f"{name}/quantised"].data_type == TensorProto.FLOAT8E4M3FN for name in products)
    quantisers = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    # Query, key and value read the same activation, but in the last layer the query reads its first token.
    assert len(quantisers) == 11
    assert {tensors[node.input[2]].data_type for node in quantisers} == {TensorProto.FLOAT8E4M3FN}


def test_its_answers_come_near(quantised: Path, gate, tmp_path: Path):
    half.to_half(quantised, tmp_path / "half.onnx")
    for graph in (quantised, tmp_path / "half.onnx"):
        answers = probabilities(engines.load("onnxruntime:fp32", graph), gate.examples, "fp8")
        assert 0 < np.abs(answers - gate.reference).max() < 0.03


@pytest.mark.parametrize("form", [explicit.FP8, explicit.INT8], ids=lambda form: form.name)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_becomes_eight_bits(family, form, exported, calibration_ids, batch, tmp_path: Path):
    made = explicit.quantise(exported(family).graph, tmp_path / "fp8.onnx", calibration_ids, form)
    assert made.quantised_products >= 5
    ids, mask = (part[:3] for part in batch)
    logits, expected = run(tmp_path / "fp8.onnx", ids, mask), run(exported(family).graph, ids, mask)
    np.testing.assert_allclose(logits, expected, atol=0.2)
    if form is explicit.INT8:
        assert qdq.check_symmetric(onnx.load(tmp_path / "fp8.onnx"))


def test_a_product_that_is_skipped_stays_as_it_was(exported, calibration_ids, tmp_path: Path):
    skipped = "/bert/encoder/layer.1/output/dense/MatMul"
    made = explicit.quantise(exported().graph, tmp_path / "fp8.onnx", calibration_ids, explicit.FP8, [skipped])
    assert made.float_products == [skipped]
    before, after = (
        next(node for node in onnx.load(path).graph.node if node.name == skipped)
        for path in (exported().graph, tmp_path / "fp8.onnx")
    )
    assert before.input == after.input


def test_a_graph_without_products_is_refused(calibration_ids, tmp_path: Path):
    write_votes(tmp_path / "model")
    with pytest.raises(BuildError, match="no matrix product with a constant weight"):
        explicit.quantise(
            tmp_path / "model" / "tiny" / "model.fp32.onnx", tmp_path / "fp8.onnx", calibration_ids, explicit.FP8
        )

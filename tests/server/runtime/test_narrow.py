"""Weights are narrowed where two products could be more than 16 bits hold, and nowhere else."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from benchmarks import MODEL
from newsdesk.server.runtime import engines, manifest, processor
from newsdesk.server.runtime.engines import pairs
from newsdesk.server.runtime.engines.narrow import ROOM, narrow
from newsdesk.server.runtime.engines.onnxruntime import MERGING
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.serving.settings import Settings
from tests.server.runtime.quantised import LABELS, WIDTH, pairs_graph

SHIPPED = latest_version(Settings().model_repository.absolute() / MODEL)
ENCODERS = [member for member in manifest.load(SHIPPED).members if member.kind != "ngrams"]


def test_the_largest_activations_and_weights_are_added_without_saturation(tmp_path: Path):
    """Field note 78: with the default kernels and weights as they are, such a processor gives 0.26 for 32.6."""
    model = pairs_graph()
    for tensor in model.graph.initializer:
        if tensor.name.startswith("weights") and tensor.dims == [WIDTH, LABELS]:
            tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, 127, np.int8), tensor.name))
        elif tensor.name == "table":
            tensor.CopyFrom(numpy_helper.from_array(np.ones(tensor.dims, np.int8), tensor.name))
        elif tensor.name == "scale":  # Sin(1) then is beyond 127 steps
            tensor.CopyFrom(numpy_helper.from_array(np.array(np.sin(1) / 200, np.float32), tensor.name))
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(model.SerializeToString())
    feed = {"input_ids": np.zeros((1, 4), np.int64), "attention_mask": np.ones((1, 4), np.int64)}
    expected = pytest.approx(3 * WIDTH * 127 * (np.sin(1) / 200) * 127 * 0.01, rel=1e-4)
    assert engines.load("onnxruntime:int8", graph)(*feed.values()) == expected
    if processor.adds_in_16_bits():  # or there is nothing to narrow for
        plain = onnxruntime.InferenceSession(pairs.load(graph).SerializeToString(), disabled_optimizers=[MERGING])
        assert plain.run(None, feed)[0] != expected


def test_channels_are_divided_by_what_their_largest_pair_has_too_much():
    columns = [[100, 60, -100, -20, 50], [-127, -127, 1, 2, 3], [127, -127, 127, 1, 127]]
    weights, scale = _narrowed(np.array(columns, np.int8).T, np.array([0.1, 0.2, 0.3], np.float32))
    assert weights.T.tolist() == [[80, 48, -80, -16, 40], [-64, -64, 1, 1, 2], columns[2]]
    assert scale == pytest.approx([0.1 * 1.25, 0.2 * 254 / 128, 0.3])


def test_one_scale_for_all_channels_fits_the_largest():
    weights, scale = _narrowed(np.array([[127, 2], [33, 4]], np.int8), np.array(0.1, np.float32))
    assert weights.tolist() == [[102, 2], [26, 3]]
    assert scale == pytest.approx(0.125)


@pytest.mark.parametrize("transposed", [False, True])
def test_no_pair_is_beyond_its_room_and_no_weight_off_by_more_than_half_a_step(transposed: bool):
    unpaired = np.clip(np.random.default_rng(1).normal(0, 60, (64, 500)), -127, 127).astype(np.int8)
    scales = np.full(500, 0.01, np.float32)
    weights, scale = _narrowed(unpaired.T if transposed else unpaired, scales, transposed)
    weights = (weights.T if transposed else weights).astype(int)
    for sign in 1, -1:
        positive = np.maximum(sign * weights, 0)
        assert (positive[::2] + positive[1::2]).max() == ROOM
    assert (np.abs(weights * scale - unpaired * scales) <= scale / 2 + 1e-6).all()


@pytest.mark.parametrize("about", ENCODERS, ids=[member.name for member in ENCODERS])
def test_every_product_of_the_shipped_members_is_narrowed(about: manifest.Member):
    graph = SHIPPED / about.graphs["int8"].path
    model = pairs.load(graph)
    assert narrow(model, graph.parent)
    scales = {node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    assert sum(name.endswith("/scale") for name in scales) > 30
    read = {name for node in model.graph.node for name in node.input}
    assert read >= {tensor.name for tensor in model.graph.initializer}  # ONNX Runtime warns of each that is left


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("zero", np.array([0, 1], np.int8)),
        ("scale", np.full(3, 0.1, np.float32)),  # of rows: 3 terms, 2 channels
        ("weights", np.full((3, 2), 255, np.uint8)),
        ("weights", None),
        ("shared", None),
    ],
)
def test_what_it_does_not_know_is_left_as_it_is(change: str, value: np.ndarray | None, tmp_path: Path):
    model = _product(np.full((3, 2), 127, np.int8), np.full(2, 0.1, np.float32))
    (tensor,) = (
        constant
        for constant in model.graph.initializer
        if constant.name == (change if change != "shared" else "weights")
    )
    if change == "shared":
        model.graph.node.append(helper.make_node("Identity", ["weights"], ["other"]))
    elif value is None:  # a value of the graph
        model.graph.initializer.remove(tensor)
    else:
        tensor.CopyFrom(numpy_helper.from_array(value, change))
        if change == "scale":
            model.graph.node[1].attribute[0].i = 0
    before = model.SerializeToString()
    assert not narrow(model, tmp_path)
    assert model.SerializeToString() == before


def test_products_of_floats_are_none_of_its_business(tmp_path: Path):
    model = _product(np.full((3, 2), 127, np.int8), np.full(2, 0.1, np.float32))
    model.graph.node[2].input[0] = "given"
    before = model.SerializeToString()
    assert narrow(model, tmp_path)
    assert model.SerializeToString() == before


def _narrowed(weights: np.ndarray, scale: np.ndarray, transposed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    model = _product(weights, scale, transposed)
    assert narrow(model, Path())
    onnx.checker.check_model(model)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return values["weights"], values[model.graph.node[1].input[1]]


def _product(weights: np.ndarray, scale: np.ndarray, transposed: bool = False) -> ModelProto:
    """Return a quantised value times quantised weights: MatMul, or Gemm with its weights transposed."""
    terms, count = weights.shape[::-1] if transposed else weights.shape
    constants = {"step": np.array(0.1, np.float32), "weights": weights, "scale": scale}
    constants |= {"zero": np.zeros_like(scale, np.int8)}
    axis = 0 if transposed else 1
    nodes = [
        helper.make_node("DequantizeLinear", ["given", "step"], ["floats"]),
        helper.make_node("DequantizeLinear", ["weights", "scale", "zero"], ["weights/floats"], axis=axis),
        helper.make_node("Gemm", ["floats", "weights/floats"], ["product"], transB=1)
        if transposed
        else helper.make_node("MatMul", ["floats", "weights/floats"], ["product"]),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("given", TensorProto.INT8, ["rows", terms])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, ["rows", count])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)

"""ONNX Runtime computes every int8 product of a Q/DQ graph in int8, and the graph's answers are what they were."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from benchmarks import MODEL
from newsdesk.server.runtime import engines, manifest, processor
from newsdesk.server.runtime.engines import pairs
from newsdesk.server.runtime.engines.onnxruntime import MERGING
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.serving.settings import Settings
from tests.server.runtime.quantised import pairs_graph

SHIPPED = latest_version(Settings().model_repository.absolute() / MODEL)
ENCODERS = [member for member in manifest.load(SHIPPED).members if member.kind != "ngrams"]


@pytest.mark.parametrize("exact", ["0", "1"])
def test_products_that_share_an_activation_are_int8_and_no_weight_or_table_is_dequantised(exact: str, tmp_path: Path):
    (tmp_path / "graph.onnx").write_bytes(pairs_graph().SerializeToString())
    assert _run_as(tmp_path / "graph.onnx", exact, tmp_path, parted=False)["MatMul"]  # or there is nothing to mend
    ran = _run_as(tmp_path / "graph.onnx", exact, tmp_path)
    assert ran["MatMulIntegerToFloat"] == 3
    assert not ran["MatMul"]
    assert ran["DequantizeLinear"] == 1  # the rows that were looked up


@pytest.mark.parametrize("about", ENCODERS, ids=[member.name for member in ENCODERS])
def test_the_shipped_members_int8_products_are_found(about: manifest.Member, tmp_path: Path):
    graph = SHIPPED / about.graphs["int8"].path
    nodes = onnx.load(graph, load_external_data=False).graph.node
    dequantised = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    of_pairs = [node for node in nodes if node.op_type == "MatMul" and dequantised.issuperset(node.input)]
    assert _run_as(graph, "0", tmp_path)["MatMulIntegerToFloat"] >= len(of_pairs) > 30


def test_the_answers_are_those_of_the_graph_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processor, "adds_in_16_bits", lambda: False)  # where weights become coarser: see test_narrow.py
    model = pairs_graph()
    (tmp_path / "graph.onnx").write_bytes(model.SerializeToString())
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    ids = np.arange(2 * 7).reshape(2, 7)
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    expected = onnxruntime.InferenceSession(model.SerializeToString(), plain).run(None, feed)[0]
    logits = engines.load("onnxruntime:int8", tmp_path / "graph.onnx")(ids, np.ones_like(ids))
    assert np.allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_weights_in_a_file_beside_the_graph_are_found(tmp_path: Path):
    """And in one with two names, as the server links the versions that it serves."""
    ids = np.arange(12).reshape(1, 12)
    (tmp_path / "whole.onnx").write_bytes(pairs_graph().SerializeToString())
    beside = {"save_as_external_data": True, "location": "weights", "size_threshold": 64}
    onnx.save(pairs_graph(), tmp_path / "parted.onnx", **beside)
    (tmp_path / "linked").hardlink_to(tmp_path / "weights")
    whole, parted = (engines.load("onnxruntime:int8", tmp_path / f"{name}.onnx") for name in ("whole", "parted"))
    assert np.array_equal(whole(ids, np.ones_like(ids)), parted(ids, np.ones_like(ids)))


def test_a_table_whose_rows_are_quantised_otherwise_is_left_alone():
    model = pairs_graph(row_scale=0.5)
    pairs.look_rows_up(model)
    (lookup,) = (node for node in model.graph.node if node.op_type == "Gather")
    assert lookup.input[0] == "table/floats"


def test_a_graph_without_pairs_is_read_as_it_is(tmp_path: Path):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "plain", [value], [value])
    graph.output[0].name = "y"
    onnx.save(helper.make_model(graph), tmp_path / "plain.onnx")
    assert pairs.load(tmp_path / "plain.onnx") is None


def _run_as(graph: Path, exact: str, folder: Path, parted: bool = True) -> Counter[str]:
    """Return the operators that ONNX Runtime makes of a graph, and how many of each."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", exact)
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph.parent))
    source = pairs.load(graph).SerializeToString() if parted else str(graph)
    onnxruntime.InferenceSession(source, options, disabled_optimizers=[MERGING] if parted else [])
    optimised = onnx.load(folder / "optimised.onnx", load_external_data=False)
    return Counter(node.op_type for node in optimised.graph.node)

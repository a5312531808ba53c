"""Precisions and their gate (notes 74, 79 to 82, 86, 93, 96, 98)."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from newsdesk.build.compile import export, half, int8, qdq, quantise, targets
from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.graphs import GraphFacts
from newsdesk.build.compile.metrics import TargetMetrics, VariantFigures
from newsdesk.build.compile.predict import RUNS_ANY, probabilities
from newsdesk.build.errors import BuildError, VerificationError
from newsdesk.build.recipe import Compile, Quantise
from newsdesk.server.runtime import engines
from tests.build.encoders import save


def run(graph: Path, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return engines.load(RUNS_ANY, graph)(ids, mask)


@pytest.fixture(scope="session")
def quantised(exported, calibration_ids, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "model.int8.onnx"
    int8.to_int8(exported().graph, path, calibration_ids, 0.5)
    return path


@pytest.fixture
def bench(exported, gate, calibration_ids, tmp_path) -> quantise.Workbench:
    facts = GraphFacts.load(exported().folder)
    notes: list[str] = []
    return quantise.Workbench(exported().graph, facts, gate, calibration_ids, Quantise(), tmp_path, notes.append)


def test_int8_is_symmetric_signed_and_small(quantised: Path, exported):
    model = onnx.load(quantised)
    assert qdq.check_symmetric(model) > 40
    kinds = {t.data_type for t in model.graph.initializer if np.prod(t.dims) >= 32 * 32 and t.dims[0] != 1}
    assert kinds == {TensorProto.INT8}
    assert quantised.stat().st_size < 0.65 * exported().graph.stat().st_size


@pytest.mark.parametrize("target", ["openvino:int8", "onnxruntime:int8"])
def test_every_engine_reads_int8_and_comes_near(target: str, quantised: Path, gate: Gate):
    answers = probabilities(engines.load(target, quantised), gate.examples, target)
    assert np.abs(answers - gate.reference).max() < 0.02


def test_int8_looks_embeddings_up_without_changing_a_bit(quantised: Path, exported, batch, tmp_path: Path):
    """NNCF's own form, DQ of the whole table and then the lookup, gives the same logits."""
    model = onnx.load(quantised)
    nodes = []
    lookups = {n.name: n for n in model.graph.node if n.op_type == "Gather" and n.input[0].endswith("/table")}
    assert len(lookups) == 3
    tables = {n.output[0]: n for n in model.graph.node if n.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        if node.op_type == "Mul" and node.name.endswith("/scaled"):
            name = node.output[0]
            scales = next(t for t in model.graph.initializer if t.name == f"{name}/scales")
            flat = numpy_helper.to_array(scales).ravel()
            zeros = np.zeros(flat.shape, np.int8)
            model.graph.initializer.append(numpy_helper.from_array(flat, f"{name}/flat"))
            model.graph.initializer.append(numpy_helper.from_array(zeros, f"{name}/0"))
            table, lookup = tables[f"{name}/table"].input[0], lookups[node.name.removesuffix("/scaled")]
            nodes += [
                helper.make_node("DequantizeLinear", [table, f"{name}/flat", f"{name}/0"], [f"{name}/floats"], axis=0),
                helper.make_node("Gather", [f"{name}/floats", lookup.input[1]], [name]),
            ]
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    qdq.prune(model)
    onnx.save(model, tmp_path / "plain.onnx")
    assert np.array_equal(run(tmp_path / "plain.onnx", *batch), run(quantised, *batch))


def test_after_a_relu_int8_is_signed_all_the_same(calibration_ids, batch, tmp_path: Path):
    save(tmp_path / "checkpoint", hidden_act="relu")
    export.export(tmp_path / "checkpoint", tmp_path, 64)
    int8.to_int8(tmp_path / export.GRAPH, tmp_path / "int8.onnx", calibration_ids, -1)
    assert qdq.check_symmetric(onnx.load(tmp_path / "int8.onnx"))
    assert np.isfinite(run(tmp_path / "int8.onnx", *batch)).all()


@pytest.mark.parametrize("point", [np.array(3, np.int8), np.array(0, np.uint8)])
def test_a_zero_point_that_tensorrt_refuses_fails(point: np.ndarray, quantised: Path):
    model = onnx.load(quantised)
    quantiser = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    zero = next(tensor for tensor in model.graph.initializer if tensor.name == quantiser.input[2])
    zero.CopyFrom(numpy_helper.from_array(point, zero.name))
    with pytest.raises(VerificationError, match=rf"zero point \[{point}\] \({point.dtype}\); expected 0 \(int8\)"):
        qdq.check_symmetric(model)


def test_dynamic_quantisation_of_a_fused_graph(exported, batch, tmp_path: Path):
    """Without DefaultTensorType it raises "Unable to find data type for weight_name" here."""
    figures = int8.to_int8_dynamic(exported().graph, tmp_path / "dynamic.onnx", 4, 32)
    assert figures.fused["SkipLayerNormalization"]
    tensors = onnx.load(tmp_path / "dynamic.onnx").graph.initializer
    weights = [t for t in tensors if t.name.endswith("_quantized") and "embeddings" not in t.name]
    assert len(weights) == 12  # of the last layer, whose queries are of one token, the projections are not fused
    assert all(weight.data_type == TensorProto.INT8 for weight in weights)  # QInt8, chosen on purpose
    logits, expected = run(tmp_path / "dynamic.onnx", *batch), run(exported().graph, *batch)
    np.testing.assert_allclose(logits[:3], expected[:3], atol=0.03)


def test_every_variant_lands_with_its_figures(bench: quantise.Workbench):
    figures = quantise.quantise(bench)
    assert set(figures) == {"fp32", "fp16", "int8", "int8-dynamic"}
    assert replace(figures["fp32"], mib=0) == VariantFigures(
        accuracy=1.0, accuracy_loss=0.0, agreement=1.0, finite=True, passed=True, mib=0
    )
    assert figures["fp16"].agreement > 0.95
    for variant in figures:
        assert (bench.folder / quantise.graph_name(variant)).stat().st_size / 2**20 == pytest.approx(
            figures[variant].mib, abs=0.01
        )


def spoil(graph: Path) -> None:
    """Turn the last layer's answers round."""
    model = onnx.load(graph)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "classifier.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32([9, -9, 0]), bias.name))
    onnx.save(model, graph)


def test_int8_made_worse_is_marked_and_a_better_precision_serves(bench, monkeypatch):
    def worse(source, target, calibration_ids, alpha):
        made = to_int8(source, target, calibration_ids, alpha)
        spoil(target)
        return made

    to_int8 = int8.to_int8
    monkeypatch.setattr(int8, "to_int8", worse)
    figures = quantise.quantise(bench)
    assert not figures["int8"].passed
    assert figures["int8"].agreement < 0.9
    assert [made.smooth_quant_alpha for made in figures["int8"].tried][:2] == [0.95, 0.8]
    assert figures["int8"].tried[-1].float_products
    assert any("int8 does not pass: accuracy loss" in line for line in bench.say.__self__)

    graphs = {variant: bench.folder / quantise.graph_name(variant) for variant in figures}
    measured = targets.measure(graphs, bench.gate, Compile(rows=24, rounds=1))
    assert not measured["openvino:int8"].passed
    notes: list[str] = []
    chosen = targets.choose(measured, ["int8"], notes.append)
    assert engines.TARGETS[chosen] != "int8"
    assert notes == ["none of the wanted variants (int8) passed; another precision serves"]


def test_a_product_that_int8_spoils_is_found_and_left_in_float(bench, monkeypatch):
    """The range of one product's activations is cut to a hundredth: only that one in float passes the gate."""
    victim = "/bert/encoder/layer.1/output/dense/MatMul"

    def saturated(source, target, calibration_ids, alpha):
        made = to_int8(source, target, calibration_ids, -1)
        model = onnx.load(target)
        product = next(node for node in model.graph.node if node.name == victim)
        scale = next(node for node in model.graph.node if node.output[0] == product.input[0]).input[1]
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == scale)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) / np.float32(100), scale))
        onnx.save(model, target)
        return made

    to_int8 = int8.to_int8
    monkeypatch.setattr(int8, "to_int8", saturated)
    int8.to_int8(bench.source, bench.folder / "start.onnx", bench.calibration, -1)
    start = onnx.load(bench.folder / "start.onnx")

    def write(target: Path, names: list[str]) -> dict:
        relaxed = onnx.ModelProto.FromString(start.SerializeToString())
        qdq.relax(relaxed, names)
        onnx.save(relaxed, target)
        return {}

    ranking = quantise.sensitivity(write, qdq.products(start), bench.gate, bench.folder)
    assert ranking[0][0] == victim
    relaxed = onnx.load(bench.folder / "start.onnx")
    qdq.relax(relaxed, [victim])
    assert victim not in qdq.products(relaxed)
    assert len(qdq.products(relaxed)) == len(ranking) - 1
    onnx.checker.check_model(relaxed)


def test_a_graph_that_nncf_does_not_know_gets_plain_pairs(bench, monkeypatch):
    def lost(*_):
        raise AttributeError("'NoneType' object has no attribute 'shape'\nand more")

    monkeypatch.setattr(int8, "to_int8", lost)
    figures = quantise.quantise(bench)
    assert figures["int8"].quantised_products == 14
    assert figures["int8"].agreement > 0.9
    assert qdq.check_symmetric(onnx.load(bench.folder / "model.int8.onnx"))
    assert any("NNCF does not know this graph (AttributeError)" in line for line in bench.say.__self__)


def test_a_graph_that_no_converter_knows_is_marked(bench, monkeypatch):
    def lost(*_):
        raise RuntimeError("no shape\nand more")

    monkeypatch.setattr(half, "to_half", lost)
    figures = quantise.quantise(bench)
    assert figures["fp16"] == VariantFigures(passed=False, error="RuntimeError: no shape")
    assert not (bench.folder / "model.fp16.onnx").exists()
    assert figures["fp32"].passed


def test_variants_finished_before_an_interruption_are_not_made_again(bench, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(int8, "to_int8", stopped)
        with pytest.raises(KeyboardInterrupt):
            quantise.quantise(bench)
    monkeypatch.setattr(half, "to_half", stopped)
    assert quantise.quantise(bench)["fp16"].passed


def test_nothing_that_passes_is_an_error():
    with pytest.raises(BuildError, match="no target passed"):
        targets.choose({"openvino:int8": TargetMetrics(variant="int8", passed=False)}, [], print)


def test_a_target_whose_answers_depend_on_their_neighbours_may_not_serve(bench, exported):
    dynamic = bench.folder / "model.int8-dynamic.onnx"
    int8.to_int8_dynamic(exported().graph, dynamic, 4, 32)
    lax = Gate(bench.gate.examples, bench.gate.reference, 1.0, 0.0)
    measured = targets.measure({"int8-dynamic": dynamic, "fp32": exported().graph}, lax, Compile(rows=32, rounds=1))
    assert measured["onnxruntime:int8-dynamic"].company_difference
    strict = Compile(rows=32, rounds=1, max_company_difference=0)
    measured = targets.measure({"int8-dynamic": dynamic}, lax, strict)
    assert not measured["onnxruntime:int8-dynamic"].passed


def test_a_target_that_cannot_be_loaded_is_out_of_the_race(exported, gate, tmp_path: Path):
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    measured = targets.measure(
        {"int8": tmp_path / "broken.onnx", "fp32": exported().graph}, gate, Compile(rows=8, rounds=1)
    )
    assert measured["openvino:int8"].error
    assert not measured["onnxruntime:int8"].passed
    assert targets.choose(measured, [], print).endswith((":fp32", ":bf16"))


def test_a_dequantised_graph_is_the_float_one_but_for_rounded_weights(quantised: Path, exported, batch, tmp_path: Path):
    model = onnx.load(quantised)
    assert qdq.dequantise(model) >= 8
    assert not {node.op_type for node in model.graph.node} & {"QuantizeLinear", "DequantizeLinear"}
    onnx.save(model, tmp_path / "fp32.onnx")
    floats, again = (
        engines.load("onnxruntime:fp32", path)(*batch) for path in (exported().graph, tmp_path / "fp32.onnx")
    )
    np.testing.assert_allclose(again, floats, atol=0.05)
    assert not np.array_equal(again, floats)

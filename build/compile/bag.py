"""Export a fitted student to ONNX, in fp32 and int8, and prove that the graphs answer as the model does.

    logits = head(relu(hidden(sum of the table's rows / number of n-grams)))

Padding is multiplied to id 0, whose row is zero. A table and a head with nothing between are one table, a number a
label. The int8 table has a scale a column, which goes into the layer behind it.
"""

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from msgspec import structs
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from newsdesk.build.compile.graphs import GRAPH, OPSET, PARITY_TOLERANCE, GraphFacts, graph_name
from newsdesk.build.compile.metrics import Conversion, ExportFigures, Parity, VariantFigures
from newsdesk.build.compile.workbench import Workbench
from newsdesk.build.errors import VerificationError
from newsdesk.build.members.bag import FEATURES, Bag, Bags, predict
from newsdesk.server.runtime import engines
from newsdesk.server.runtime.arrays import Array

FAMILY = "ngrams"
_LENGTHS = 1, 2, 90, 1000, 50_000
_BATCHES = 1, 3, 64
_MOST_IDS = 200_000
"""Ids of a batch of the parity test; what is longer and larger at once is not run."""


def export(fitted: Path, folder: Path, max_length: int = 0, texts: Sequence[str] = ()) -> ExportFigures:
    """Write the fp32 graph, the features file and the facts of a fitted student; return the parity figures.

    The graph takes input_ids and attention_mask, INT64 [batch, length], and gives logits, FP32 [batch, labels].

    Args:
        fitted: the folder of the fit
        folder: is written to
        max_length: is other kinds' of members
        texts: are other kinds' of members

    Raises:
        VerificationError: the graph differs from the model.
    """
    bag = Bag.load(fitted)
    onnx.save(graph(*layers(bag)), folder / GRAPH)
    shutil.copy(fitted / FEATURES, folder / FEATURES)
    rows, width = bag.table.weight.shape
    GraphFacts(family=FAMILY, pad_id=0, heads=0, hidden_size=width).save(folder)
    return ExportFigures(rows=rows, opset=OPSET, **structs.asdict(parity(bag, folder / GRAPH)))


def quantise(bench: Workbench) -> dict[str, VariantFigures]:
    """Write fp32 and int8 to the bench's folder and return the figures of each."""
    graphs = {variant: bench.folder / graph_name(variant) for variant in ("fp32", "int8")}
    shutil.copy(bench.source, graphs["fp32"])
    scales = to_int8(bench.source, graphs["int8"])
    figures = {
        "fp32": VariantFigures.of(bench.gate.judge(bench.gate.reference)),
        "int8": VariantFigures.of(bench.measure(graphs["int8"], "int8"), scales),
    }
    if not figures["int8"].passed:
        bench.say(f"int8 does not pass: {bench.gate.reason(figures['int8'])}. fp32 is kept.")
    return {
        variant: replace(of_variant, mib=round(graphs[variant].stat().st_size / 2**20, 2))
        for variant, of_variant in figures.items()
    }


def to_int8(source: Path, target: Path) -> Conversion:
    """Write the graph with its table in int8, symmetric, a scale a column; return the largest scale."""
    model = onnx.load(source)
    (table,) = (value for value in model.graph.initializer if value.name == "table")
    values = numpy_helper.to_array(table)
    scales = np.maximum(np.abs(values).max(0), 1e-12) / 127
    table.CopyFrom(numpy_helper.from_array(np.rint(values / scales).astype(np.int8), "table"))
    model.graph.initializer.append(numpy_helper.from_array(scales.astype(np.float32), "scales"))
    nodes = [*model.graph.node]
    for at, node in enumerate(nodes):
        if node.op_type == "Gather":
            node.output[0] = "rows_int8"
            nodes.insert(at + 1, helper.make_node("Cast", ["rows_int8"], ["rows"], to=TensorProto.FLOAT))
        if node.op_type == "Div":
            node.output[0] = "mean_int8"
            nodes.insert(at + 1, helper.make_node("Mul", ["mean_int8", "scales"], ["mean"]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, target)
    return Conversion(largest_scale=float(scales.max()))


def layers(bag: Bag) -> tuple[Array, list[tuple[Array, Array]]]:
    """Return the table, FP32 [rows, n], and the layers behind it, (weights [n, m], bias [m]); the last gives logits.

    Where the model is linear and has fewer labels than columns there is no layer left but the bias.
    """
    table = bag.table.weight.detach().numpy()
    head = bag.head.weight.detach().numpy().T, bag.head.bias.detach().numpy()
    if bag.hidden is not None:
        return table, [(bag.hidden.weight.detach().numpy().T, bag.hidden.bias.detach().numpy()), head]
    weights, bias = head
    if weights.shape[1] < weights.shape[0]:
        return table @ weights, [(np.eye(len(bias), dtype=np.float32), bias)]
    return table, [head]


def graph(table: Array, behind: list[tuple[Array, Array]]) -> onnx.ModelProto:
    """Return the graph of a table and the layers behind it, as `layers` gives them.

    Args:
        table: FP32 [rows, n]
        behind: weights [n, m] and bias [m] of each; one layer at least, the last of which gives logits
    """
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["ids"]),
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "along"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["attention_mask", "along"], ["number"], keepdims=1),
        helper.make_node("Max", ["number", "one"], ["at_least_one"]),
        helper.make_node("Cast", ["at_least_one"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
    ]
    constants = {"table": table, "along": np.array([1]), "one": np.array([1])}
    source = "mean"
    for at, (weights, bias) in enumerate(behind):
        last = at == len(behind) - 1
        constants |= {f"weights{at}": weights, f"bias{at}": bias}
        nodes.append(
            helper.make_node("Gemm", [source, f"weights{at}", f"bias{at}"], ["logits" if last else f"layer{at}"])
        )
        if not last:
            nodes.append(helper.make_node("Relu", [f"layer{at}"], [f"hidden{at}"]))
            source = f"hidden{at}"
    axes = ["batch_size", "sequence_length"]
    built = helper.make_graph(
        nodes,
        "student",
        [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", len(behind[-1][1])])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def parity(bag: Bag, path: Path) -> Parity:
    """Compare the graph with the model: texts of one length, and the same ones padded, with another id for padding.

    Returns:
        The shapes, texts × ids, and the largest difference of a logit.

    Raises:
        VerificationError: a logit differs by more than PARITY_TOLERANCE, or is NaN or Inf.
    """
    generator = np.random.default_rng(0)
    shapes = [shape for shape in itertools.product(_BATCHES, _LENGTHS) if np.prod(shape) <= _MOST_IDS]
    worst = 0.0
    for target in ("onnxruntime:fp32", "openvino:fp32"):
        engine = engines.load(target, path)
        for batch, length in shapes:
            ids = generator.integers(1, len(bag.table.weight), (batch, length))
            lengths = generator.integers(1, length + 1, batch)
            lengths[0] = length
            mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
            texts = [row[:end] for row, end in zip(ids, lengths, strict=True)]
            difference = float(np.abs(engine(ids, mask) - predict(bag, Bags.of(texts))).max())
            if not difference <= PARITY_TOLERANCE:  # a NaN is not less or equal
                raise VerificationError(
                    f"{target}, batch {batch}, length {length}: logits differ by {difference} from PyTorch's, expected "
                    f"at most {PARITY_TOLERANCE}"
                )
            worst = max(worst, difference)
    return Parity(shapes=[list(shape) for shape in shapes], largest_difference=worst)

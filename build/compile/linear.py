"""Export a fitted linear member to ONNX, and prove that the graph answers as the model does.

rows, counts = ids mod R, ids div R       R rows of the table
weight       = (1 + log(counts)) * idf of the row's block, 0 for padding
logits       = sum over rows of weight / length of its block * table + bias
"""

import shutil
from pathlib import Path

import numpy as np
import onnx
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from newsdesk.build.compile.graphs import GRAPH, OPSET, PARITY_TOLERANCE, GraphFacts, graph_name
from newsdesk.build.compile.metrics import ExportFigures, VariantFigures
from newsdesk.build.compile.workbench import Workbench
from newsdesk.build.errors import VerificationError
from newsdesk.build.members.linear import TERMS, LinearClassifier
from newsdesk.server.runtime import batching, engines
from newsdesk.server.runtime.arrays import Array

FAMILY = "linear"
_TINY = 1e-12


def export(fitted: Path, folder: Path, max_length: int, texts: list[str]) -> ExportFigures:
    """Write the fp32 graph, the terms file and the facts of a fitted member; return the parity figures.

    The graph takes input_ids and attention_mask, INT64 [batch, length], and gives logits, FP32 [batch, labels].

    Args:
        fitted: the folder of the fit
        folder: is written to
        max_length: is other kinds' of members: terms are read whole
        texts: that parity is proved on, one at least

    Raises:
        VerificationError: the graph differs from the model.
    """
    linear = LinearClassifier.load(fitted)
    onnx.save(graph(linear), folder / GRAPH)
    shutil.copy(fitted / TERMS, folder / TERMS)
    GraphFacts(family=FAMILY, pad_id=0, heads=0, hidden_size=len(linear.bias)).save(folder)
    return ExportFigures(rows=linear.terms.rows, opset=OPSET, largest_difference=parity(linear, folder / GRAPH, texts))


def quantise(bench: Workbench) -> dict[str, VariantFigures]:
    """Keep the graph in fp32, the one precision of so small a member, and return its figures."""
    path = bench.folder / graph_name("fp32")
    shutil.copy(bench.source, path)
    figures = VariantFigures.of(bench.gate.judge(bench.gate.reference))
    return {"fp32": replace(figures, mib=round(path.stat().st_size / 2**20, 2))}


def graph(linear: LinearClassifier) -> onnx.ModelProto:
    """Return the graph of a linear member."""
    axes = ["batch_size", "sequence_length"]
    built = helper.make_graph(
        _nodes(),
        "linear",
        [helper.make_tensor_value_info(name, TensorProto.INT64, axes) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", len(linear.bias)])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in _constants(linear).items()],
    )
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _nodes() -> list[onnx.NodeProto]:
    """Return the graph's nodes: counts of rows to TF-IDF, each text to length 1, and its rows of the table added up."""
    node = helper.make_node
    return [
        node("Mul", ["input_ids", "attention_mask"], ["ids"]),
        node("Div", ["ids", "rows"], ["counts"]),
        node("Mul", ["counts", "rows"], ["whole"]),
        node("Sub", ["ids", "whole"], ["row"]),
        node("Cast", ["counts"], ["frequency"], to=TensorProto.FLOAT),
        node("Max", ["frequency", "one"], ["at_least_one"]),
        node("Log", ["at_least_one"], ["log"]),
        node("Add", ["log", "one"], ["sublinear"]),
        node("Unsqueeze", ["sublinear", "last"], ["column"]),
        node("Gather", ["idf", "row"], ["idfs"]),
        node("Mul", ["idfs", "column"], ["weighted"]),
        node("Mul", ["weighted", "weighted"], ["squares"]),
        node("ReduceSum", ["squares", "along"], ["square"], keepdims=1),
        node("Sqrt", ["square"], ["length"]),
        node("Max", ["length", "tiny"], ["positive"]),
        node("Div", ["weighted", "positive"], ["scaled"]),
        node("ReduceSum", ["scaled", "last"], ["weight"], keepdims=0),
        node("Unsqueeze", ["weight", "along"], ["weights"]),
        node("Gather", ["table", "row"], ["rows_of_text"]),
        node("MatMul", ["weights", "rows_of_text"], ["product"]),
        node("Squeeze", ["product", "along"], ["sum"]),
        node("Add", ["sum", "bias"], ["logits"]),
    ]


def _constants(linear: LinearClassifier) -> dict[str, Array]:
    """Return the graph's constants by name; `idf` is FP32 [rows, blocks], 0 outside a row's own block."""
    terms = linear.terms
    idf = np.zeros((terms.rows, len(terms.blocks)), np.float32)
    for number, (start, block) in enumerate(zip(terms.starts, terms.blocks, strict=True)):
        idf[start : start + block.rows, number] = linear.idf[start : start + block.rows]
    return {
        "rows": np.array([terms.rows], np.int64),
        "one": np.array([1], np.float32),
        "tiny": np.array([_TINY], np.float32),
        "last": np.array([2]),
        "along": np.array([1]),
        "idf": idf,
        "table": linear.table,
        "bias": linear.bias,
    }


def parity(linear: LinearClassifier, path: Path, texts: list[str]) -> float:
    """Return the largest difference of a logit between the graph, in batches of many lengths, and the model.

    Raises:
        VerificationError: it is more than PARITY_TOLERANCE, or a logit is NaN or Inf.
    """
    texts = [*texts, "?", texts[0] * 30]
    ids, expected, worst = linear.terms.encode(texts), linear.logits(texts), 0.0
    groups = [[at for at in range(len(texts))[start : start + 32]] for start in range(0, len(texts), 32)]
    for target in ("onnxruntime:fp32", "openvino:fp32"):
        engine = engines.load(target, path)
        for group, padded in zip(groups, batching.pad(ids, groups, 0, batching.BagShapes()), strict=True):
            difference = float(np.abs(engine(*padded) - expected[group]).max())
            if not difference <= PARITY_TOLERANCE:  # a NaN is not less or equal
                raise VerificationError(
                    f"{target}: logits differ by {difference} from scikit-learn's, expected at most {PARITY_TOLERANCE}"
                )
            worst = max(worst, difference)
    return worst

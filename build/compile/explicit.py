"""Explicit Q/DQ pairs by our own hand: fp8 for Hopper, Ada and later, and int8 for graphs that NNCF does not know.

Products with a constant weight read activations with one scale a tensor and weights with one a channel; both ranges are
the largest absolute value, which the exponent of E4M3 affords (Micikevicius and others, FP8 Formats for Deep Learning,
2022). Products of two activations (attention) and embeddings stay as they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from newsdesk.build.compile import calibration, half
from newsdesk.build.compile.metrics import Conversion
from newsdesk.build.compile.qdq import prune, replace_nodes
from newsdesk.build.errors import BuildError
from newsdesk.server.runtime.arrays import Array


@dataclass(frozen=True)
class EightBits:
    """Eight bits: what they are called, their type in a file and in memory, and the largest value."""

    name: str
    kind: int
    dtype: Any
    largest: float

    def quantise(self, values: Array) -> Array:
        """Round values that are already divided by their scale, and cut them to the format's range."""
        rounded = np.rint(values) if self.kind == TensorProto.INT8 else values
        return np.clip(rounded, -self.largest, self.largest).astype(self.dtype)

    def tensor(self, values: Array, name: str) -> TensorProto:
        """Return quantised values as a constant of a graph."""
        return helper.make_tensor(name, self.kind, values.shape, values.tobytes(), raw=True)


FP8 = EightBits("fp8", TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn, 448.0)
INT8 = EightBits("int8", TensorProto.INT8, np.int8, 127.0)
_SMALLEST_SCALE = 2.0**-14
"""Scales become fp16; below this one they would lose bits."""


def products(model: ModelProto) -> list[str]:
    """Return the names of the matrix products with a constant weight, in the order of the graph."""
    constants, live = _constants(model), _live(model)
    return [node.name for node in model.graph.node if _weight(node, constants, live) is not None]


def quantise(
    source: Path, target: Path, rows: list[list[int]], form: EightBits, skip: Iterable[str] = ()
) -> Conversion:
    """Write the graph with Q/DQ pairs around every product but those in `skip`, calibrated on real rows.

    The rest of the graph stays fp32 (see `half.to_half` for the next step).

    Args:
        source: the fp32 graph
        target: the file to write
        rows: the ids of each calibration row
        form: FP8 or INT8
        skip: names of products that stay float

    Returns:
        The rows, and the products of either kind.

    Raises:
        BuildError: there is nothing to quantise, or the rows are not to be learned from.
    """
    calibration.check(rows)
    model = onnx.load(source)
    half.name_nodes(model)
    half.raise_opset(model, half.QDQ_OPSET)
    constants, live = _constants(model), _live(model)
    skipped = set(skip)
    chosen = {
        node.name: weight
        for node in model.graph.node
        if node.name not in skipped and (weight := _weight(node, constants, live)) is not None
    }
    if not chosen:
        raise BuildError(f"{source.name}: no matrix product with a constant weight, so there is nothing to quantise")
    most = calibration.ranges(model, rows, {node.input[0] for node in model.graph.node if node.name in chosen})
    nodes: list[NodeProto] = []
    pairs: dict[str, str] = {}
    for node in model.graph.node:
        if node.name in chosen:
            activation = node.input[0]
            if activation not in pairs:
                pairs[activation] = f"{activation}/dequantised"
                nodes += _pair(model, activation, most[activation], form)
            nodes.append(_weights(model, node, chosen[node.name], form))
            node.input[0], node.input[1] = pairs[activation], f"{node.name}/weight"
        nodes.append(node)
    replace_nodes(model, nodes)
    prune(model)
    onnx.save(model, target)
    return Conversion(calibration_rows=len(rows), quantised_products=len(chosen), float_products=sorted(skipped))


def _pair(model: ModelProto, name: str, most: float, form: EightBits) -> list[NodeProto]:
    """Return Q and DQ of an activation, `<name>` → `<name>/dequantised`."""
    scale = np.float32(max(most / form.largest, _SMALLEST_SCALE))
    model.graph.initializer.append(numpy_helper.from_array(np.array(scale), f"{name}/scale"))
    model.graph.initializer.append(form.tensor(np.zeros((), form.dtype), f"{name}/zero"))
    scales = [f"{name}/scale", f"{name}/zero"]
    return [
        helper.make_node("QuantizeLinear", [name, *scales], [f"{name}/quantised"], f"{name}/quantize"),
        helper.make_node(
            "DequantizeLinear", [f"{name}/quantised", *scales], [f"{name}/dequantised"], f"{name}/dequantize"
        ),
    ]


def _weights(model: ModelProto, node: NodeProto, weight: Array, form: EightBits) -> NodeProto:
    """Store a product's weight in eight bits, a scale an output channel, and return its DQ."""
    transposed = next((a.i for a in node.attribute if a.name == "transB"), 0)
    channels = 0 if transposed else 1
    scales = np.maximum(np.abs(weight).max(1 - channels) / form.largest, _SMALLEST_SCALE).astype(np.float32)
    quantised = form.quantise(weight / np.expand_dims(scales, 1 - channels))
    model.graph.initializer.append(form.tensor(quantised, f"{node.name}/quantised"))
    model.graph.initializer.append(numpy_helper.from_array(scales, f"{node.name}/scales"))
    model.graph.initializer.append(form.tensor(np.zeros(scales.shape, form.dtype), f"{node.name}/zeros"))
    inputs = [f"{node.name}/{part}" for part in ("quantised", "scales", "zeros")]
    return helper.make_node(
        "DequantizeLinear", inputs, [f"{node.name}/weight"], f"{node.name}/dequantize", axis=channels
    )


def _constants(model: ModelProto) -> dict[str, TensorProto]:
    """Return every constant by name, those that an Identity passes on (tied layers) among them."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants.update((node.output[0], held.t) for held in node.attribute if held.name == "value")
        elif node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    return constants


def _live(model: ModelProto) -> set[str]:
    """Return the names of what hangs on the inputs; products of constants (relative positions) are computed once."""
    live = {value.name for value in model.graph.input}
    for node in model.graph.node:
        # A Shape's result is known before the first number is: what hangs on it alone is a position.
        if node.op_type != "Shape" and not live.isdisjoint(node.input):
            live.update(node.output)
    return live


def _weight(node: NodeProto, constants: dict[str, TensorProto], live: set[str]) -> Array | None:
    """Return the constant weight of a matrix product, FP32 [in, out] (Gemm with transB: [out, in]), or None."""
    if node.op_type not in ("MatMul", "Gemm") or node.input[0] not in live or node.input[1] not in constants:
        return None
    held = constants[node.input[1]]
    if held.data_type != TensorProto.FLOAT or len(held.dims) != 2:
        return None
    return numpy_helper.to_array(held)

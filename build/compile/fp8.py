"""fp8 by explicit Q/DQ pairs, for Hopper, Ada and later (E4M3: Micikevicius and others, FP8 Formats for Deep Learning,
2022).

Products with a constant weight read activations with one scale a tensor and weights with one a channel; both ranges are
the largest absolute value, which E4M3's exponent affords. Products of two activations (attention) stay in fp16.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from newsdesk.build.compile import calibration, half
from newsdesk.build.compile.qdq import prune, replace_nodes
from newsdesk.build.errors import BuildError

_LARGEST = 448.0
"""Of E4M3."""
_SMALLEST_SCALE = 2.0**-14
"""Scales become fp16; below this one they would lose bits."""


def products(model: ModelProto) -> list[str]:
    """Return the names of the matrix products with a constant weight, in the order of the graph."""
    return [node.name for node in model.graph.node if _weight(node, _constants(model)) is not None]


def to_fp8(source: Path, target: Path, rows: list[list[int]], skip: Iterable[str] = ()) -> dict[str, Any]:
    """Write the graph with E4M3 pairs around every product but those in `skip`, calibrated on real rows.

    The rest of the graph stays fp32 (see `half.to_half` for the next step). Raises BuildError where there is nothing to
    quantise, or the rows are not to be learned from.
    """
    calibration.check(rows)
    model = onnx.load(source)
    half.name_nodes(model)
    half.raise_opset(model, 19)
    constants = _constants(model)
    skipped = set(skip)
    chosen = {
        node.name: weight
        for node in model.graph.node
        if node.name not in skipped and (weight := _weight(node, constants)) is not None
    }
    if not chosen:
        raise BuildError(f"{source.name}: no matrix product with a constant weight, so there is nothing to make fp8")
    most = calibration.ranges(model, rows, {node.input[0] for node in model.graph.node if node.name in chosen})
    nodes: list[NodeProto] = []
    pairs: dict[str, str] = {}
    for node in model.graph.node:
        if node.name in chosen:
            activation = node.input[0]
            if activation not in pairs:
                pairs[activation] = f"{activation}/fp8"
                nodes += _pair(model, activation, most[activation])
            nodes.append(_weights(model, node, chosen[node.name]))
            node.input[0], node.input[1] = pairs[activation], f"{node.name}/weight"
        nodes.append(node)
    replace_nodes(model, nodes)
    prune(model)
    onnx.save(model, target)
    return {"calibration_rows": len(rows), "fp8_products": len(chosen), "float_products": sorted(skipped)}


def _pair(model: ModelProto, name: str, most: float) -> list[NodeProto]:
    """Return Q and DQ of an activation, `<name>` → `<name>/fp8`."""
    scale = np.float32(max(most / _LARGEST, _SMALLEST_SCALE))
    model.graph.initializer.append(numpy_helper.from_array(np.array(scale), f"{name}/scale"))
    model.graph.initializer.append(_tensor(np.zeros((), ml_dtypes.float8_e4m3fn), f"{name}/zero"))
    scales = [f"{name}/scale", f"{name}/zero"]
    return [
        helper.make_node("QuantizeLinear", [name, *scales], [f"{name}/e4m3"], f"{name}/quantize"),
        helper.make_node("DequantizeLinear", [f"{name}/e4m3", *scales], [f"{name}/fp8"], f"{name}/dequantize"),
    ]


def _weights(model: ModelProto, node: NodeProto, weight: np.ndarray) -> NodeProto:
    """Store a product's weight in E4M3, a scale an output channel, and return its DQ."""
    transposed = next((a.i for a in node.attribute if a.name == "transB"), 0)
    channels = 0 if transposed else 1
    scales = np.maximum(np.abs(weight).max(1 - channels) / _LARGEST, _SMALLEST_SCALE).astype(np.float32)
    quantised = (weight / np.expand_dims(scales, 1 - channels)).astype(ml_dtypes.float8_e4m3fn)
    model.graph.initializer.append(_tensor(quantised, f"{node.name}/e4m3"))
    model.graph.initializer.append(numpy_helper.from_array(scales, f"{node.name}/scales"))
    model.graph.initializer.append(_tensor(np.zeros(scales.shape, ml_dtypes.float8_e4m3fn), f"{node.name}/zeros"))
    inputs = [f"{node.name}/{part}" for part in ("e4m3", "scales", "zeros")]
    return helper.make_node(
        "DequantizeLinear", inputs, [f"{node.name}/weight"], f"{node.name}/dequantize", axis=channels
    )


def _tensor(values: np.ndarray, name: str) -> TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, values.shape, values.tobytes(), raw=True)


def _constants(model: ModelProto) -> dict[str, TensorProto]:
    """Return every constant by name, those that an Identity passes on (tied layers) among them."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], held.t) for held in node.attribute if held.name == "value")
        elif node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _weight(node: NodeProto, constants: dict[str, TensorProto]) -> np.ndarray | None:
    """Return the constant weight of a matrix product, FP32 [in, out] (Gemm with transB: [out, in]), or None."""
    if node.op_type not in ("MatMul", "Gemm") or node.input[0] in constants or node.input[1] not in constants:
        return None
    held = constants[node.input[1]]
    if held.data_type != TensorProto.FLOAT or len(held.dims) != 2:
        return None
    return numpy_helper.to_array(held)

"""Weights that leave room for the sum of two products in 16 bits.

Without VNNI the fast int8 products of x86 are sums of two in 16 bits, and 2 · 255 · 127 is cut off there. ONNX Runtime
has exact ones, which take longer.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.engines import pairs

ROOM = 128
"""The most that two weights may add up to: 128 · 255 fits into 16 bits, 129 · 255 doesn't."""


@dataclass(frozen=True)
class _Weights:
    """Constant weights of a product, of two dimensions, of which `summed` is the one that is summed over."""

    dequantise: NodeProto
    values: TensorProto
    scale: TensorProto
    summed: int


def narrow(model: ModelProto, folder: Path) -> bool:
    """Divide the channels of weights that two products could saturate by what they are too large, and their scales.

    A channel's values are rounded anew, at most to half as many.

    Args:
        model: is changed; weights in files stand in it then
        folder: of those files

    Returns:
        False, with the model as it was, where a product of two quantised values has no constant weights, symmetric and
        read by nobody else, so that there is no telling what its products are.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    dequantised = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    consumers = Counter(name for node in model.graph.node for name in node.input)
    products = []
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm") and dequantised.keys() >= {*node.input[:2]}:
            weights = _weights(node, dequantised[node.input[1]], constants, folder)
            if weights is None or consumers[weights.values.name] > 1:
                return False
            products.append(weights)
    for weights in products:
        scale = _narrow(weights, folder)
        model.graph.initializer.append(scale)
        weights.dequantise.input[1] = scale.name  # the old one may be others', too
    pairs.drop_unread(model, {weights.scale.name for weights in products})
    return True


def _weights(
    node: NodeProto, dequantise: NodeProto, constants: dict[str, TensorProto], folder: Path
) -> _Weights | None:
    values, scale, *rest = (constants.get(name) for name in dequantise.input)
    if values is None or scale is None or values.data_type != TensorProto.INT8 or len(values.dims) != 2:
        return None
    if rest and (rest[0] is None or _read(rest[0], folder).any()):
        return None
    summed = 1 if node.op_type == "Gemm" and _attribute(node, "transB", 0) else 0
    by_channel = len(scale.dims) == 1 and _attribute(dequantise, "axis", 1) % 2 != summed
    return _Weights(dequantise, values, scale, summed) if by_channel or not scale.dims else None


def _narrow(weights: _Weights, folder: Path) -> TensorProto:
    """Change the values, and return the scale that goes with them."""
    values, scale = (_read(tensor, folder) for tensor in (weights.values, weights.scale))
    factors = np.maximum(_largest_pair(np.moveaxis(values, weights.summed, 0)) / ROOM, 1.0)
    factors = np.expand_dims(factors, weights.summed) if scale.ndim else factors.max()
    rounded = np.rint(values / factors).astype(np.int8)
    weights.values.CopyFrom(numpy_helper.from_array(rounded, weights.values.name))
    changed = (scale * factors.reshape(scale.shape)).astype(scale.dtype)
    return numpy_helper.from_array(changed, f"{weights.values.name}/scale")


def _largest_pair(values: Array) -> Array:
    """Return the largest sum, or negative one's size, of values INT8 [terms, channels] two by two, for each channel."""
    even = np.pad(values.astype(np.int16), ((0, len(values) % 2), (0, 0)))
    sums = [(np.maximum(sign * even[::2], 0) + np.maximum(sign * even[1::2], 0)).max(0) for sign in (1, -1)]
    largest: Array = np.max(sums, 0)
    return largest


def _read(tensor: TensorProto, folder: Path) -> Array:
    """Return a constant's values. onnx reads no file that has two names, as those have that the server links."""
    if tensor.data_location != TensorProto.EXTERNAL:
        within: Array = numpy_helper.to_array(tensor)
        return within
    place = {entry.key: entry.value for entry in tensor.external_data}
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    values = np.fromfile(folder / place["location"], dtype, math.prod(tensor.dims), offset=int(place.get("offset", 0)))
    return values.reshape(tensor.dims)


def _attribute(node: NodeProto, name: str, default: int) -> int:
    values = (int(onnx.helper.get_attribute_value(entry)) for entry in node.attribute if entry.name == name)
    return next(values, default)

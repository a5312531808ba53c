"""fp16, written into the file: what a strongly typed compiler computes is what stands there."""

from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto

from newsdesk.build.compile import calibration, qdq
from newsdesk.build.compile.metrics import Conversion

_KEPT = ["LayerNormalization", "Softmax", "Pow", "ReduceMean", "Sqrt", "Range", "Erf"]
"""Sums of squares and of exponentials overflow in fp16; Range has no fp16 form."""
_LARGEST = 65504.0
_HEADROOM = 6
"""An activation that comes within this factor of fp16's largest number on the calibration rows is computed in fp32:
other articles go further. (The masks, at 1e4, are below it.)"""
SCANNED_ROWS = 64
QDQ_OPSET = 19
"""The first in which QuantizeLinear reads fp16."""


def too_large(source: Path, rows: list[list[int]]) -> dict[str, float]:
    """Return the nodes that give or read values too large for fp16 on the first SCANNED_ROWS rows, with the largest."""
    model = onnx.load(source)
    name_nodes(model)
    calibration.clamp_masks(model)
    limit = _LARGEST / _HEADROOM
    large = {
        name: most for name, most in calibration.ranges(model, rows[:SCANNED_ROWS]).items() if not most <= limit
    }  # NaN is not
    return {
        node.name: max(large.get(name, 0.0) for name in (*node.input, *node.output))
        for node in model.graph.node
        if node.op_type != "Constant" and not large.keys().isdisjoint([*node.input, *node.output])
    }


def to_half(source: Path, target: Path, keep: Iterable[str] = ()) -> Conversion:
    """Write the fp16 graph of an fp32 one, or of one with Q/DQ pairs, whose scales become fp16 too.

    Inputs and outputs keep their types; normalisation and softmax stay fp32.

    Args:
        source: the graph
        target: the file to write
        keep: names of further nodes that stay fp32
    """
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    model = onnx.load(source)
    name_nodes(model)
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise_opset(model, QDQ_OPSET)
    model = float16.convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *_KEPT],
        node_block_list=list(keep),
        max_finite_val=calibration.MASK,
    )
    OnnxModel(model).topological_sort()  # the casts were put at the end
    _join(model)
    onnx.save(model, target)
    return Conversion(kept_float=sorted(keep))


def _join(model: ModelProto) -> None:
    """Let fp32 nodes read what fp32 nodes give: the converter casts to fp16 and back between them, which overflows."""
    casts = {node.output[0]: node for node in model.graph.node if node.op_type == "Cast"}
    whole: dict[str, str] = {}
    for wide, node in casts.items():
        halved = casts.get(node.input[0])
        # By the converter's own name: what came from whole numbers is cast by the graph.
        if node.attribute[0].i == TensorProto.FLOAT and halved and halved.input[0].endswith("_cast_to_fp16"):
            whole[wide] = halved.input[0]
    for node in model.graph.node:
        node.input[:] = [whole.get(name, name) for name in node.input]
    qdq.prune(model)


def name_nodes(model: ModelProto) -> None:
    """Name the nodes without a name after what they give, so that each can be kept."""
    for node in model.graph.node:
        node.name = node.name or node.output[0]


def raise_opset(model: ModelProto, version: int) -> None:
    """Declare a newer opset in place. From 18 to 19 no operator changed its meaning; Q/DQ took more types."""
    for of_domain in model.opset_import:
        if of_domain.domain in ("", "ai.onnx"):
            of_domain.version = max(of_domain.version, version)
    model.ir_version = max(model.ir_version, 9)  # the first with float8

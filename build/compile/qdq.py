"""Surgery on graphs with Q/DQ pairs: what quantisers leave to do so that every compiler reads them, and fast."""

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from newsdesk.build.errors import VerificationError

_PRODUCTS = "MatMul", "Gemm"


def check_symmetric(model: ModelProto) -> int:
    """Check that every Q/DQ node is int8 with a zero point of 0, and return how many there are.

    Raises:
        VerificationError: one is not.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in nodes:
        point = numpy_helper.to_array(tensors[node.input[2]]) if len(node.input) > 2 else np.zeros(1, np.uint8)
        if point.dtype != np.int8 or point.any():
            raise VerificationError(
                f"{node.op_type} {node.name!r} has the zero point {point.ravel()[:3].tolist()} ({point.dtype}); "
                "expected 0 (int8): TensorRT refuses asymmetric and unsigned quantisation. "
                "Quantise with the PERFORMANCE preset."
            )
    return len(nodes)


def make_signed(model: ModelProto) -> int:
    """Turn unsigned pairs with a zero point of 0 (after a ReLU) into signed ones of the same range; return how many.

    Half the steps are lost: 127 for the range that had 255.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    count = 0
    for quantise in [node for node in model.graph.node if node.op_type == "QuantizeLinear"]:
        scale, point = (numpy_helper.to_array(tensors[name]) for name in quantise.input[1:3])
        if point.dtype != np.uint8 or point.any():
            continue
        count += 1
        names = [f"{quantise.output[0]}/signed_scale", f"{quantise.output[0]}/signed_zero"]
        values = (scale * np.float32(255 / 127)).astype(np.float32), np.zeros(point.shape, np.int8)
        model.graph.initializer.extend(map(numpy_helper.from_array, values, names))
        for node in model.graph.node:
            if node is quantise or quantise.output[0] in node.input:
                node.input[1:] = names
    del model.graph.value_info[:]  # it may say uint8 of what is now int8
    prune(model)
    return count


def look_up_in_int8(model: ModelProto) -> int:
    """Rewrite embeddings so that a compiler can look rows up before it dequantises them; return how many there were.

    NNCF gives a table one scale a row and dequantises the whole table before the lookup. ONNX Runtime does that, 45 MB
    of it, on every call, and OpenVINO keeps the floats. Here the table is dequantised by 1, looked up, quantised and
    dequantised by 1 (exact: the values are whole numbers), and multiplied by the rows' scales, looked up beside it: bit
    for bit the same, and a compiler that moves DQ behind the lookup never makes the floats. (A plain lookup in int8
    would do as well, but TensorRT takes an int8 constant only in front of a DQ.)
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    tables = {
        node.output[0]: node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors
    }
    nodes: list[NodeProto] = []
    count = 0
    for node in model.graph.node:
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        if table is None or axis != 0 or numpy_helper.to_array(tensors[table.input[1]]).ndim != 1:
            nodes.append(node)
            continue
        count += 1
        name, rows = node.output[0], node.input[1]
        constants = {"scales": numpy_helper.to_array(tensors[table.input[1]])[:, None]}
        for pair in ("table", "row"):  # not shared: ONNX Runtime rewrites zero points in place
            constants |= {f"{pair}_scale": np.array(1, np.float32), f"{pair}_zero": np.array(0, np.int8)}
        model.graph.initializer.extend(
            numpy_helper.from_array(value, f"{name}/{key}") for key, value in constants.items()
        )
        by_table, by_row = ([f"{name}/{pair}_scale", f"{name}/{pair}_zero"] for pair in ("table", "row"))
        nodes += [
            helper.make_node("DequantizeLinear", [table.input[0], *by_table], [f"{name}/table"], f"{node.name}/table"),
            helper.make_node("Gather", [f"{name}/table", rows], [f"{name}/whole"], node.name),
            helper.make_node("QuantizeLinear", [f"{name}/whole", *by_row], [f"{name}/int8"], f"{node.name}/quantize"),
            helper.make_node("DequantizeLinear", [f"{name}/int8", *by_row], [f"{name}/row"], f"{node.name}/dequantize"),
            helper.make_node("Gather", [f"{name}/scales", rows], [f"{name}/scale"], f"{node.name}/scales"),
            helper.make_node("Mul", [f"{name}/row", f"{name}/scale"], [name], f"{node.name}/scaled"),
        ]
    replace_nodes(model, nodes)
    prune(model)
    return count


def products(model: ModelProto) -> list[str]:
    """Return the names of the matrix products that read a quantised activation, in the order of the graph."""
    sources = _float_sources(model)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in _PRODUCTS and any(name in sources for name in node.input)
    ]


def relax(model: ModelProto, names: list[str]) -> None:
    """Let these matrix products read their activations as floats; their weights stay int8."""
    sources = _float_sources(model)
    for node in model.graph.node:
        if node.name in names:
            node.input[:] = [sources.get(name, name) for name in node.input]
    prune(model)


def dequantise(model: ModelProto) -> int:
    """Turn a graph with Q/DQ pairs into the float graph that it stands for, in place; return how many weights it has.

    Weights become floats, rounded as they were quantised. Activations are no longer rounded.

    Raises:
        VerificationError: an output of the graph is quantised.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    sources = _float_sources(model)
    nodes: list[NodeProto] = []
    count = 0
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors:
            values, scale, *points = (numpy_helper.to_array(tensors[name]).astype(np.float32) for name in node.input)
            point = points[0] if points else np.float32(0)
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            shape = [-1 if place == axis % values.ndim else 1 for place in range(values.ndim)] if scale.ndim else []
            floats = (values - point.reshape(shape)) * scale.reshape(shape)
            model.graph.initializer.append(numpy_helper.from_array(floats.astype(np.float32), node.output[0]))
            count += 1
            continue
        node.input[:] = [_behind(name, sources) for name in node.input]
        nodes.append(node)
    for output in model.graph.output:
        if output.name in sources:
            raise VerificationError(f"the graph's output {output.name} is quantised; expected floats")
    replace_nodes(model, nodes)
    del model.graph.value_info[:]
    prune(model)
    return count


def _behind(name: str, sources: dict[str, str]) -> str:
    """Return the float value behind a chain of Q/DQ pairs."""
    while name in sources:
        name = sources[name]
    return name


def prune(model: ModelProto) -> None:
    """Drop nodes and constants that nothing reads."""
    graph = model.graph
    needed = {value.name for value in graph.output}
    kept: list[NodeProto] = []
    for node in reversed(graph.node):  # in topological order, so consumers come first here
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
            needed.update(name for nested in nested(node) for name in nested)
    replace_nodes(model, kept[::-1])
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def _float_sources(model: ModelProto) -> dict[str, str]:
    """Map the output of every DQ that follows a Q to what the Q reads."""
    quantised = {node.output[0]: node for node in model.graph.node if node.op_type == "QuantizeLinear"}
    return {
        node.output[0]: quantised[node.input[0]].input[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in quantised
    }


def nested(node: NodeProto) -> list[list[str]]:
    """Return what the nodes of a control-flow node's subgraphs read: they see the outer graph's values."""
    graphs = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    inside = [inner for graph in graphs for inner in graph.node]
    return (
        [list(inner.input) for inner in inside]
        + [names for inner in inside for names in nested(inner)]
        + [[value.name for value in graph.output] for graph in graphs]
    )


def replace_nodes(model: ModelProto, nodes: list[NodeProto]) -> None:
    """Give the graph these nodes, in this order."""
    del model.graph.node[:]
    model.graph.node.extend(nodes)

"""Rewrite what exporters leave in a graph: what compilers refuse, and what is computed for nothing."""

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from newsdesk.build.compile import first_token
from newsdesk.build.compile.qdq import prune, replace_nodes
from newsdesk.server.runtime.arrays import Array


def rewrite(model: ModelProto) -> list[str]:
    """Apply every rewrite in place and return what was done, in words; [] where nothing had to be."""
    done = {
        "EyeLike over a dynamic shape": spell_out_identities(model),
        "If that compares a length with itself": settle_branches(model),
        "products of the last layer, for the first token alone": first_token.keep(model),
    }
    return [f"{what} ({count})" for what, count in done.items() if count]


def spell_out_identities(model: ModelProto) -> int:
    """Rewrite every EyeLike as positions == positions, which TensorRT reads at any length; return how many.

    XLNet's attention mask lets every token see itself so. Only square ones without an offset: others stay.
    """
    nodes: list[NodeProto] = []
    constants: dict[str, Array] = {}
    count = 0
    for node in model.graph.node:
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        if node.op_type != "EyeLike" or attributes.get("k", 0):
            nodes.append(node)
            continue
        count += 1
        name = node.output[0]
        kind = attributes.get("dtype", TensorProto.FLOAT)
        constants |= {f"{name}/0": np.array(0), f"{name}/1": np.array(1)}
        constants |= {f"{name}/[0]": np.array([0]), f"{name}/[1]": np.array([1])}
        made = [
            ("Shape", [node.input[0]], "shape", {}),
            ("Gather", [f"{name}/shape", f"{name}/0"], "length", {"axis": 0}),
            ("Range", [f"{name}/0", f"{name}/length", f"{name}/1"], "positions", {}),
            ("Unsqueeze", [f"{name}/positions", f"{name}/[0]"], "row", {}),
            ("Unsqueeze", [f"{name}/positions", f"{name}/[1]"], "column", {}),
            ("Equal", [f"{name}/row", f"{name}/column"], "same", {}),
        ]
        nodes += [
            helper.make_node(kind_of, inputs, [f"{name}/{output}"], f"{node.name}/{output}", **attributes)
            for kind_of, inputs, output, attributes in made
        ]
        nodes.append(helper.make_node("Cast", [f"{name}/same"], [name], node.name, to=kind))
    replace_nodes(model, nodes)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return count


def settle_branches(model: ModelProto) -> int:
    """Put the branch in the place of every If that asks whether queries and keys differ in number; return how many.

    DeBERTa's relative positions have one for a decoder's cached keys. In an encoder queries and keys are the same
    tokens, so the condition Not(Equal(length, length)) never holds; OpenVINO and NNCF refuse the If all the same. The
    export's parity at every shape is what proves it for the member at hand.
    """
    sources = {output: node for node in model.graph.node for output in node.output}
    nodes: list[NodeProto] = []
    count = 0
    for node in model.graph.node:
        if node.op_type != "If" or not _never_holds(node.input[0], sources):
            nodes.append(node)
            continue
        count += 1
        branch = next(attribute.g for attribute in node.attribute if attribute.name == "else_branch")
        model.graph.initializer.extend(branch.initializer)
        nodes += branch.node
        for inside, outside in zip(branch.output, node.output, strict=True):
            nodes.append(helper.make_node("Identity", [inside.name], [outside], f"{node.name}/{outside}"))
    replace_nodes(model, nodes)
    prune(model)
    return count


def _never_holds(condition: str, sources: dict[str, NodeProto]) -> bool:
    """Whether a condition is Not(a == b) of two lengths, each read off a shape that the same tokens give."""
    for expected in ("Cast", "Not"):
        node = sources.get(condition)
        if node is None or node.op_type != expected:
            return False
        condition = node.input[0]
    node = sources.get(condition)
    return node is not None and node.op_type == "Equal" and all(_reads_a_length(name, sources) for name in node.input)


def _reads_a_length(name: str, sources: dict[str, NodeProto]) -> bool:
    """Whether a scalar is Squeeze(Slice(Shape(x), -2, -1)): the number of tokens of queries or keys."""
    node = sources.get(name)
    for expected in ("Squeeze", "Slice"):
        if node is None or node.op_type != expected:
            return False
        start = sources.get(node.input[1]) if expected == "Slice" else None
        if start is not None and _value(start) != -2:
            return False
        node = sources.get(node.input[0])
    return node is not None and node.op_type == "Shape"


def _value(node: NodeProto) -> int | None:
    held = [a for a in node.attribute if a.name == "value" and a.type == AttributeProto.TENSOR]
    return int(numpy_helper.to_array(held[0].t).ravel()[0]) if held else None

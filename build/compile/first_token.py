"""Compute the last layer of an encoder for its first token alone, where the head reads nothing else.

BERT's pooler, and with it every classifier on the first token, looks at one position of the last layer. What that layer
makes of the others is thrown away: its queries, its attention's output and its feed-forward part, five sixths of its
products. They still give keys and values. The answers are the same.
"""

from collections import defaultdict

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from newsdesk.build.compile.qdq import nested, replace_nodes

_TOKENS = 1
"""The axis of [batch, tokens, numbers] that the head takes the first of."""
_ONE_INPUT = {"Cast", "Clip", "DequantizeLinear", "Erf", "Gelu", "Identity", "QuantizeLinear", "Relu", "Sqrt", "Tanh"}
_BROADCAST = {"Add", "Div", "Mul", "Pow", "Sub", "Where"}
_OF_SHAPES = {"Cast", "Concat", "Gather", "Shape", "Slice", "Squeeze", "Unsqueeze"}


def keep(model: ModelProto) -> int:
    """Cut the tokens down to the first as early as the graph allows, in place; return how many products gain by it.

    Goes from the head's Gather up through every operation that treats tokens apart, and stops where a token looks at
    the others or something else reads the tensor.
    """
    graph = _Graph(model)
    wanted: dict[str, int] = {}  # tensors of which the first along that axis is enough
    inside: set[str] = set()  # nodes that need compute no more
    shapes: set[str] = set()  # nodes whose shapes only nodes inside ask for
    for node in reversed(model.graph.node):
        if graph.takes_first(node):
            wanted[node.input[0]] = _TOKENS
            inside.add(node.output[0])
            continue
        if graph.outputs.intersection(node.output):
            continue
        consumers = [consumer for output in node.output for consumer in graph.consumers[output]]
        of_shapes = node.op_type in _OF_SHAPES and bool(consumers)
        if of_shapes and all(_asks_for_shape(consumer, node, inside, shapes) for consumer in consumers):
            shapes.add(node.output[0])
        axis = wanted.get(node.output[0])
        if axis is None or not all(consumer.output[0] in inside | shapes for consumer in consumers):
            continue
        inputs = graph.through(node, axis)
        if inputs is None or any(wanted.get(name, of) != of for name, of in inputs.items()):
            continue
        wanted |= inputs
        inside.add(node.output[0])
    products = sum(node.op_type == "MatMul" for node in model.graph.node if node.output[0] in inside)
    if products:
        _cut(model, {name: axis for name, axis in wanted.items() if name not in inside}, inside)
    return products


def _asks_for_shape(consumer: NodeProto, node: NodeProto, inside: set[str], shapes: set[str]) -> bool:
    if consumer.output[0] in shapes:
        return True
    return consumer.output[0] in inside and consumer.op_type == "Reshape" and consumer.input[1] == node.output[0]


def _cut(model: ModelProto, edges: dict[str, int], inside: set[str]) -> None:
    """Let the nodes inside read the first alone of what comes in at the edges."""
    nodes: list[NodeProto] = []
    cut: set[str] = set()
    heads = {node.output[0] for node in model.graph.node if node.op_type == "Gather"}
    for node in model.graph.node:
        if node.output[0] in inside - heads:
            for i, name in enumerate(node.input):
                if name not in edges:
                    continue
                if name not in cut:
                    cut.add(name)
                    limits = {"from": 0, "to": 1, "axis": edges[name]}
                    for what, value in limits.items():
                        tensor = numpy_helper.from_array(np.array([value]), f"{name}/first/{what}")
                        model.graph.initializer.append(tensor)
                    inputs = [name, *(f"{name}/first/{what}" for what in limits)]
                    nodes.append(helper.make_node("Slice", inputs, [f"{name}/first"], f"{name}/first"))
                node.input[i] = f"{name}/first"
        nodes.append(node)
    replace_nodes(model, nodes)


class _Graph:
    """A graph's tensors: who makes and reads them, their ranks, and which are constant."""

    def __init__(self, model: ModelProto) -> None:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self._shapes = {
            value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]  # 0 where it varies
            for value in [*inferred.value_info, *inferred.input, *inferred.output]
            if value.type.tensor_type.HasField("shape")
        }
        self._values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        # What a branch or a loop reads from outside is read whole, like what the graph gives.
        self.outputs = {value.name for value in model.graph.output}
        self.outputs |= {name for node in model.graph.node for names in nested(node) for name in names}
        self._makers: dict[str, NodeProto] = {}
        self.consumers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            self._makers |= dict.fromkeys(node.output, node)
            for name in node.input:
                self.consumers[name].append(node)
            if node.op_type == "Constant":
                self._values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self._shapes |= {name: list(value.shape) for name, value in self._values.items()}

    def takes_first(self, node: NodeProto) -> bool:
        """Whether it is a head's look at the first token: Gather(states, 0) over the tokens of [batch, tokens, n]."""
        if node.op_type != "Gather" or _attribute(node, "axis", 0) != _TOKENS:
            return False
        if len(self._shapes.get(node.input[0], ())) != 3:
            return False
        index = self._values.get(node.input[1])
        return index is not None and index.shape == () and index == 0

    def through(self, node: NodeProto, axis: int) -> dict[str, int] | None:
        """Return which inputs are needed only for the first along which axis, or None where all may be looked at."""
        if any(name and name not in self._shapes for name in [*node.input, node.output[0]]):
            return None
        rank = len(self._shapes[node.output[0]])
        first = node.input[0] if node.input else ""
        match node.op_type:
            case kind if kind in _ONE_INPUT:
                scaled = kind in ("DequantizeLinear", "QuantizeLinear") and np.prod(self._shapes[node.input[1]]) != 1
                return None if scaled or first in self._values else {first: axis}
            case "Softmax":
                return {first: axis} if _attribute(node, "axis", -1) % rank != axis else None
            case "LayerNormalization":
                return {first: axis} if _attribute(node, "axis", -1) % rank > axis else None
            case "MatMul":
                return {first: axis} if axis == rank - 2 and len(self._shapes[first]) == rank else None
            case "Transpose":
                return {first: next(attribute for attribute in node.attribute if attribute.name == "perm").ints[axis]}
            case "Reshape":
                kept = axis == _TOKENS and {rank, len(self._shapes[first])} <= {3, 4} and self._keeps_tokens(node)
                return {first: axis} if kept else None
            case kind if kind in _BROADCAST:
                placed = {name: axis - rank + len(self._shapes[name]) for name in node.input}
                return {name: at for name, at in placed.items() if at >= 0 and self._shapes[name][at] != 1}
        return None

    def _keeps_tokens(self, node: NodeProto) -> bool:
        """Whether a Reshape's target has as many tokens as what it reshapes, however many those are."""
        target = self._values.get(node.input[1])
        if target is not None:
            return target[_TOKENS] in (0, -1)
        concat = self._makers.get(node.input[1])
        if concat is None or concat.op_type != "Concat" or len(concat.input) <= _TOKENS:
            return False
        count = self._values.get(concat.input[_TOKENS])
        if count is not None:
            return count.size == 1 and count.item() in (0, -1)
        picked = self._reads(concat.input[_TOKENS], "Unsqueeze")
        if self._reads(self._reads(picked, "Gather"), "Shape") != node.input[0]:
            return False
        return self._values.get(self._makers[picked].input[1]) == _TOKENS

    def _reads(self, name: str, kind: str) -> str:
        """Return what the node that makes a tensor reads first, if it is of that kind; else ""."""
        maker = self._makers.get(name)
        return maker.input[0] if maker is not None and maker.op_type == kind else ""


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)

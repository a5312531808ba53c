"""Q/DQ pairs where ONNX Runtime finds all the int8 products that they mean.

Of products that share an activation, as queries, keys and values do, it makes products of floats, and dequantises
their weights on every call; and on processors with VNNI it dequantises whole tables to look a few rows up. What is
changed here computes the same, bit for bit.
"""

from copy import deepcopy
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper


def load(path: Path) -> ModelProto | None:
    """Return the graph with its pairs changed, or None where it has none. Weights in other files stay there."""
    model = onnx.load(path, load_external_data=False)
    if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return None
    look_rows_up(model)
    part(model)
    return model


def part(model: ModelProto) -> None:
    """Give each consumer of a quantised value a Q/DQ pair of its own."""
    sources, consumers = _sources(model), _consumers(model)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes.append(node)
        quantise = sources.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if quantise is None or quantise.op_type != "QuantizeLinear":
            continue
        for number, (consumer, place) in enumerate(consumers[node.output[0]][1:]):
            pair = deepcopy(quantise), deepcopy(node)
            for copied in pair:
                copied.name = copied.output[0] = f"{copied.output[0]}/{number}"  # names must differ, or be left out
            pair[1].input[0] = pair[0].output[0]
            consumer.input[place] = pair[1].output[0]
            nodes += pair
    _replace(model, nodes)


def look_rows_up(model: ModelProto) -> None:
    """Look rows of a quantised table up as they are stored, where they are quantised again behind, as the table is."""
    sources, consumers = _sources(model), _consumers(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    dropped: set[str] = set()
    for node in model.graph.node:
        table = sources.get(node.input[0]) if node.op_type == "Gather" else None
        following = [consumer for consumer, _ in consumers.get(node.output[0], [])]
        if table is None or table.op_type != "DequantizeLinear" or table.input[0] not in constants:
            continue
        if [consumer.op_type for consumer in following] != ["QuantizeLinear"]:
            continue
        (quantise,) = following
        if len(table.input) == len(quantise.input) == 3 and all(
            _same_number(constants.get(left), constants.get(right))
            for left, right in zip(table.input[1:], quantise.input[1:], strict=True)
        ):
            node.input[0], node.output[0] = table.input[0], quantise.output[0]
            dropped.add(node.output[0])
            if len(consumers[table.output[0]]) == 1:
                dropped.add(table.output[0])  # ONNX Runtime computes what nobody reads, too
    going = [node for node in model.graph.node if node.op_type != "Gather" and node.output[0] in dropped]
    _replace(model, [node for node in model.graph.node if node not in going])
    drop_unread(model, {name for node in going for name in node.input})


def drop_unread(model: ModelProto, names: set[str]) -> None:
    """Remove those of the constants that nobody reads: ONNX Runtime warns of each."""
    unread = names - _consumers(model).keys()
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name in unread]:
        model.graph.initializer.remove(tensor)


def _same_number(left: TensorProto | None, right: TensorProto | None) -> bool:
    """Whether both are known to be one number: what lies in another file is not read."""
    if left is None or right is None or left.data_type != right.data_type:
        return False
    if any(tensor.dims or tensor.data_location == TensorProto.EXTERNAL for tensor in (left, right)):
        return False
    return bool(numpy_helper.to_array(left) == numpy_helper.to_array(right))


def _sources(model: ModelProto) -> dict[str, NodeProto]:
    return {output: node for node in model.graph.node for output in node.output}


def _consumers(model: ModelProto) -> dict[str, list[tuple[NodeProto, int]]]:
    """Map each value to those who read it, and as which of their inputs."""
    consumers: dict[str, list[tuple[NodeProto, int]]] = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            consumers.setdefault(name, []).append((node, place))
    return consumers


def _replace(model: ModelProto, nodes: list[NodeProto]) -> None:
    del model.graph.node[:]
    model.graph.node.extend(nodes)

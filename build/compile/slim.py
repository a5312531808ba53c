"""Leave out of a member's graph what no answer needs: long names, and positions behind the tokens that it reads."""

import numpy as np
import onnx
from onnx import numpy_helper

_POSITIONS = "position_embeddings"


def slim(model: onnx.ModelProto, positions: int) -> None:
    """Change the graph in place; it answers as before.

    Args:
        model: the graph
        positions: the most that the member reads; rows of their table behind these are dropped
    """
    for tensor in model.graph.initializer:
        if _POSITIONS in tensor.name and tensor.dims and tensor.dims[0] > positions:
            tensor.CopyFrom(numpy_helper.from_array(np.array(numpy_helper.to_array(tensor)[:positions]), tensor.name))
    if any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        return  # the names of a graph within the graph may be its own
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    short = {name: name for name in (*kept, "")}
    for node in model.graph.node:
        node.name = ""
        for values in node.input, node.output:
            values[:] = [_short(name, short) for name in values]
    for tensor in model.graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)
    del model.graph.value_info[:]


def _short(name: str, known: dict[str, str]) -> str:
    """Return the short name of a value, a number that no other has."""
    return known.setdefault(name, f"v{len(known)}")

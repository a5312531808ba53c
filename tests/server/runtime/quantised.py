"""A small graph of Q/DQ pairs."""

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

WIDTH, ROWS, LABELS = 16, 40, 3


def pairs_graph(row_scale: float = 1.0) -> ModelProto:
    """Return rows of an int8 table, quantised once and multiplied by three int8 matrices, added up and averaged."""
    chance = np.random.default_rng(0)
    constants = {
        "table": chance.integers(-127, 128, (ROWS, WIDTH)).astype(np.int8),
        "one": np.array(1, np.float32),
        "row_scale": np.array(row_scale, np.float32),
        "scale": np.array(0.9, np.float32),
        "weight_scale": np.full(LABELS, 0.01, np.float32),
        "tokens": np.array([1]),
    } | {f"weights{i}": chance.integers(-127, 128, (WIDTH, LABELS)).astype(np.int8) for i in range(3)}
    # Zero points of their own: ONNX Runtime rewrites them in place.
    constants |= {f"{name}_zero": np.array(0, np.int8) for name in ("table", "row", "state")} | {
        f"weights{i}_zero": np.zeros(LABELS, np.int8) for i in range(3)
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["table", "one", "table_zero"], ["table/floats"]),
        helper.make_node("Gather", ["table/floats", "input_ids"], ["rows"]),
        helper.make_node("QuantizeLinear", ["rows", "row_scale", "row_zero"], ["rows/int8"]),
        helper.make_node("DequantizeLinear", ["rows/int8", "row_scale", "row_zero"], ["rows/floats"]),
        helper.make_node("Sin", ["rows/floats"], ["states"]),
        helper.make_node("QuantizeLinear", ["states", "scale", "state_zero"], ["states/int8"]),
        helper.make_node("DequantizeLinear", ["states/int8", "scale", "state_zero"], ["states/floats"]),
    ]
    for i in range(3):
        weights = [f"weights{i}", "weight_scale", f"weights{i}_zero"]
        nodes.append(helper.make_node("DequantizeLinear", weights, [f"weights{i}/floats"], axis=1))
        nodes.append(
            helper.make_node("MatMul", ["states/floats", f"weights{i}/floats"], [f"product{i}"], f"product{i}")
        )
    nodes.append(helper.make_node("Sum", [f"product{i}" for i in range(3)], ["sum"]))
    nodes.append(helper.make_node("ReduceMean", ["sum", "tokens"], ["logits"], keepdims=0))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    graph = helper.make_graph(
        nodes,
        "shared",
        inputs,
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", LABELS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)

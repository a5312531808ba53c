"""Give quantisers real rows, and enough of them, to learn the ranges of activations from."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper

from newsdesk.build.errors import BuildError
from newsdesk.build.progress import track
from newsdesk.server.runtime.arrays import Array

LEAST_ROWS = 32
_COMMON, _COMMON_SHARE = 10, 0.08
"""In any language the ten most common tokens are more than a tenth of a text; in news, a third. Of ids drawn at random
from a vocabulary they are next to nothing."""

MASK = 1e4
"""Largest constant of a graph in half precision. Attention masks are the lowest float there is; in fp16 that plus a
score is -inf, and a row of nothing but -inf is NaN after the softmax. exp(-1e4) is 0 as well."""


def check(rows: list[list[int]]) -> None:
    """Refuse token ids that ranges cannot be learned from.

    Ranges from random ids are wrong for text, and the accuracy goes to nothing without any error.

    Args:
        rows: the ids of each, special ones included

    Raises:
        BuildError: there are too few rows, or they are no text's.
    """
    advice = "Calibrate with rows of the training data, tokenised by the member's own tokenizer."
    if len(rows) < LEAST_ROWS:
        raise BuildError(f"{len(rows)} calibration rows; expected at least {LEAST_ROWS}. {advice}")
    distinct = len({tuple(row) for row in rows})
    if distinct < LEAST_ROWS:
        raise BuildError(f"{len(rows)} calibration rows, but only {distinct} different ones. {advice}")
    if len({row[0] for row in rows}) > 1 and len({row[-1] for row in rows}) > 1:
        raise BuildError(
            f"calibration rows neither begin nor end with the same token: no tokenizer gave these ids. {advice}"
        )
    counts = Counter(token for row in rows for token in row[1:-1])
    share = sum(count for _, count in counts.most_common(_COMMON)) / max(1, counts.total())
    if share < _COMMON_SHARE:
        raise BuildError(
            f"the {_COMMON} most common tokens are {share:.1%} of the calibration rows, in text at least "
            f"{_COMMON_SHARE:.0%}: the ids look random. {advice}"
        )


def feed(names: list[str], ids: list[int]) -> dict[str, Array]:
    """Return the inputs of one row at its own length, INT64 [1, length], those of `names` alone."""
    row = np.array([ids], np.int64)
    inputs = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row)}
    return {name: inputs[name] for name in names}


def ranges(model: ModelProto, rows: list[list[int]], wanted: set[str] | None = None) -> dict[str, float]:
    """Return the largest absolute value that each float tensor of the graph takes on these rows.

    Args:
        model: is not changed
        rows: the ids of each
        wanted: names of tensors; None: every one
    """
    looked = ModelProto()
    looked.CopyFrom(onnx.shape_inference.infer_shapes(model))
    values = [*looked.graph.value_info, *looked.graph.output]
    floats = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    made = {output for node in looked.graph.node for output in node.output}
    names = sorted(floats & made if wanted is None else floats & wanted)
    for name in names:
        looked.graph.node.append(helper.make_node("Abs", [name], [f"{name}/abs"]))
        looked.graph.node.append(helper.make_node("ReduceMax", [f"{name}/abs"], [f"{name}/most"], keepdims=0))
    del looked.graph.output[:]
    looked.graph.output.extend(helper.make_tensor_value_info(f"{name}/most", TensorProto.FLOAT, []) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(looked.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = [value.name for value in model.graph.input]
    most = np.zeros(len(names))
    for ids in track(rows, "ranges"):
        most = np.maximum(most, session.run(None, feed(inputs, ids)))
    return dict(zip(names, most.tolist(), strict=True))


def clamp_masks(model: ModelProto) -> None:
    """Cut the constants of the graph to ±MASK in place."""
    tensors = [*model.graph.initializer]
    tensors += [
        a.t for node in model.graph.node if node.op_type == "Constant" for a in node.attribute if a.HasField("t")
    ]
    for tensor in tensors:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size and np.abs(values).max() > MASK:
            cut = np.clip(values, -MASK, MASK).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(cut), tensor.name))

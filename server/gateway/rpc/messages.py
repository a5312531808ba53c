"""An inference request over gRPC, read into what the HTTP side reads one with binary tensors into."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from google.protobuf.message import DecodeError, Message
from tritonclient.grpc.service_pb2 import ModelInferRequest

from newsdesk.clients.tensors import pack_texts
from newsdesk.server.gateway import inference
from newsdesk.server.gateway.problems import Malformed, TooLarge

EMPTY_FINAL = "triton_enable_empty_final_response"
"""A parameter of a stream's requests: models that answer more than once mark their last answer."""
_BYTES = "BYTES"
# Of each datatype, the typed contents that hold it, what numpy reads those as, and what it is in bytes.
_CONTENTS: dict[str, tuple[str, Any, Any]] = {
    "BOOL": ("bool_contents", np.bool_, np.bool_),
    "INT8": ("int_contents", np.int64, np.int8),
    "INT16": ("int_contents", np.int64, np.int16),
    "INT32": ("int_contents", np.int64, np.int32),
    "INT64": ("int64_contents", np.int64, np.int64),
    "UINT8": ("uint_contents", np.int64, np.uint8),
    "UINT16": ("uint_contents", np.int64, np.uint16),
    "UINT32": ("uint_contents", np.int64, np.uint32),
    "UINT64": ("uint64_contents", np.uint64, np.uint64),
    "FP32": ("fp32_contents", np.float32, np.float32),
    "FP64": ("fp64_contents", np.float64, np.float64),
    _BYTES: ("bytes_contents", None, None),
}


def parse(kind: type[Message], raw: bytes) -> Any:
    """Return a message, without what newer versions of the protocol may have in it.

    Raises:
        Malformed: it is none of its kind.
    """
    try:
        message = kind.FromString(raw)
    except DecodeError:
        raise Malformed(f"The message is not a {kind.DESCRIPTOR.name}.") from None
    message.DiscardUnknownFields()  # type: ignore[attr-defined]
    return message


def read(message: ModelInferRequest, most_values: int) -> tuple[inference.Request, bytes]:
    """Return the request and its binary data, checked. Typed contents become raw ones in the message, too.

    Args:
        message: is changed
        most_values: that are taken

    Raises:
        Malformed: it is no inference request, or one that Triton had better not see.
        TooLarge: it holds more values than are taken.
    """
    inputs = message.inputs
    _check_size(message, most_values)
    if message.raw_input_contents:
        if len(message.raw_input_contents) != len(inputs):
            counts = f"{len(message.raw_input_contents)} raw_input_contents for {len(inputs)} inputs"
            raise Malformed(f"The request holds {counts}: give one for each, or typed contents in all.")
        if typed := [tensor.name for tensor in inputs if tensor.HasField("contents")]:
            raise Malformed(f"Input {typed[0]!r:.80} has typed contents beside raw_input_contents: give one of them.")
    else:
        message.raw_input_contents.extend([_packed(tensor) for tensor in inputs])
        for tensor in inputs:
            tensor.ClearField("contents")
    raw = message.raw_input_contents
    fields = {
        "id": message.id or None,
        "parameters": _parameters(message.parameters),
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": {**_parameters(tensor.parameters), "binary_data_size": len(data)},
            }
            for tensor, data in zip(inputs, raw, strict=True)
        ],
        "outputs": [{"name": output.name, "parameters": _parameters(output.parameters)} for output in message.outputs],
    }
    if not fields["outputs"]:
        del fields["outputs"]
    try:
        request = msgspec.convert(fields, inference.Request)
    except msgspec.ValidationError as error:
        raise Malformed(f"The message is not an inference request: {error}.") from None
    binary = b"".join(raw)
    inference.check(request, binary, most_values)
    return request, binary


def _check_size(message: ModelInferRequest, most_values: int) -> None:
    """Bound what is built of a message before it is: 32 MiB of it may hold millions of values."""
    maps = [message, *message.inputs[: inference.MOST_TENSORS], *message.outputs[: inference.MOST_TENSORS]]
    values = sum(len(held.parameters) for held in maps)
    values += sum(len(held) for tensor in message.inputs for _, held in tensor.contents.ListFields())
    if values > most_values:
        raise TooLarge(f"The message holds {values} values, at most {most_values} are taken: send less at once.")
    if max(len(message.inputs), len(message.outputs)) > inference.MOST_TENSORS:
        raise Malformed(f"The request names more than {inference.MOST_TENSORS} inputs, or outputs.")


def _parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    chosen = ((name, value, value.WhichOneof("parameter_choice")) for name, value in parameters.items())
    return {name: getattr(value, choice) for name, value, choice in chosen if choice}


def _packed(tensor: Any) -> bytes:
    """Return the elements of typed contents in bytes. Raises Malformed."""
    field, wide, dtype = _CONTENTS.get(tensor.datatype, ("raw_input_contents", None, None))
    others = [held.name for held, _ in tensor.contents.ListFields() if held.name != field]
    if others or tensor.datatype not in _CONTENTS:
        contents = f"has {others[0]}" if others else "has none"
        raise Malformed(f"Input {tensor.name!r:.80} of {tensor.datatype!r:.20} {contents}, expected {field}.")
    values = getattr(tensor.contents, field)
    if tensor.datatype == _BYTES:
        return pack_texts(values)
    numbers = np.array(values, wide)
    if wide is not dtype and numbers.size:
        bounds = np.iinfo(dtype)
        if numbers.min() < bounds.min or numbers.max() > bounds.max:
            raise Malformed(
                f"Input {tensor.name!r:.80} holds {numbers.min()} to {numbers.max()}, expected {tensor.datatype}: "
                f"{bounds.min} to {bounds.max}."
            )
    return numbers.astype(dtype).tobytes()

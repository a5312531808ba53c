"""Requests of the Open Inference Protocol as gRPC has them, whole or taken apart by texts, and answers put together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from newsdesk.clients.errors import BadResponse
from newsdesk.clients.tensors import pack_texts
from newsdesk.server.contract import LABEL, QUALITY, TEXT, VERSIONS
from newsdesk.server.gateway.inference import HEADER_LENGTH, Request, RequestTensor, elements

_BYTES = "BYTES"
_OF_HTTP = "binary_data_output", "binary_data"
"""Parameters that say in which form HTTP gives its answer."""
_LENGTH = 4
_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_, "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1", "UINT16": "<u2",
    "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """The content of a request by its texts: the element of every input."""

    inputs: Mapping[str, Sequence[bytes]]

    @property
    def texts(self) -> Sequence[bytes]:
        """The texts."""
        return self.inputs[TEXT]

    @property
    def qualities(self) -> Sequence[str | None]:
        """The quality that each text is asked for in, None where it names none."""
        qualities = self.inputs.get(QUALITY)
        return [quality.decode(errors="replace") for quality in qualities] if qualities else [None] * len(self.texts)


def rows(request: Request, binary: bytes) -> Rows | None:
    """Return the texts of a request that was checked; None where it is none that the model takes."""
    inputs: dict[str, list[bytes]] = {}
    for tensor, data in zip(request.inputs, elements(request.inputs, binary), strict=True):
        if tensor.datatype != _BYTES or tensor.shape[1:] != [1] or tensor.name in inputs:
            return None
        parts = _split(data)
        if parts is None or len(parts) != tensor.shape[0]:
            return None
        inputs[tensor.name] = parts
    counts = {len(parts) for parts in inputs.values()}
    return Rows(inputs) if TEXT in inputs and len(counts) == 1 else None


def message(request: Request, held: Rows, places: Sequence[int], model: str) -> ModelInferRequest:
    """Return the request for some of its texts, to a model.

    Args:
        request: of all texts
        held: its texts
        places: of those that are asked for
        model: its name
    """
    made = ModelInferRequest(model_name=model, id=request.id or "")
    _set(made.parameters, request.parameters)
    for name, parts in held.inputs.items():
        made.inputs.add(name=name, datatype=_BYTES, shape=[len(places), 1])
        made.raw_input_contents.append(pack_texts([parts[place] for place in places]))
    for output in request.outputs or ():
        _set(made.outputs.add(name=output.name).parameters, output.parameters)
    return made


def whole(request: Request, binary: bytes, model: str, version: str) -> ModelInferRequest | None:
    """Return a request that came over HTTP, and was checked, as gRPC has it.

    Args:
        request: its JSON
        binary: its binary data
        model: its name
        version: that is asked, or ""

    Returns:
        None where Triton may read the JSON otherwise than it is read here: numbers in it, and texts that are not in a
        plain list.
    """
    made = ModelInferRequest(model_name=model, model_version=version, id=request.id or "")
    try:
        _set(made.parameters, request.parameters)
        for output in request.outputs or ():
            _set(made.outputs.add(name=output.name).parameters, output.parameters)
    except ValueError:  # an integer that is larger than gRPC's
        return None
    place = 0
    for tensor in request.inputs:
        if isinstance(tensor.data, Raw):
            data = _elements(tensor, tensor.data)
            if data is None:
                return None
        else:
            size = int((tensor.parameters or {})["binary_data_size"] or 0)
            data = binary[place : place + size]
            place += size
        made.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        made.raw_input_contents.append(data)
    return made


def _elements(tensor: RequestTensor, listed: Raw) -> bytes | None:
    """Return the texts of a tensor's JSON, which are a list of strings or of lists of one; None for any other."""
    if tensor.datatype != _BYTES:
        return None
    try:
        texts = msgspec.json.decode(listed, type=list[str | tuple[str]])
    except msgspec.DecodeError:
        return None
    if len(texts) != math.prod(tensor.shape) or len({type(text) for text in texts}) > 1:
        return None
    return pack_texts([(text if isinstance(text, str) else text[0]).encode() for text in texts])


def merge(parts: Sequence[tuple[Sequence[int], ModelInferResponse]], model: str, version: str) -> ModelInferResponse:
    """Return the answers to parts of a request as one answer in the order of its texts.

    Args:
        parts: of each, the places of its texts and the answer to them
        model: its name
        version: said of the whole; where several versions answered, VERSIONS says which is whose

    Raises:
        BadResponse: the answers are not alike.
    """
    count = sum(len(places) for places, _ in parts)
    first = parts[0][1]
    merged = ModelInferResponse(model_name=model, model_version=version, id=first.id)
    for number, output in enumerate(first.outputs):
        rows_of: list[bytes] = [b""] * count
        for places, answer in parts:
            for place, row in zip(places, _rows_of(answer, number, output, len(places)), strict=True):
                rows_of[place] = row
        merged.outputs.add(name=output.name, datatype=output.datatype, shape=[count, *output.shape[1:]])
        merged.raw_output_contents.append(b"".join(rows_of))
    versions = {place: answer.model_version for places, answer in parts for place in places}
    if len(set(versions.values())) > 1:
        merged.parameters[VERSIONS].string_param = ",".join(versions[place] for place in range(count))
    return merged


def _rows_of(answer: ModelInferResponse, number: int, like: Any, count: int) -> list[bytes]:
    """Return the bytes of each row of an output."""
    alike = number < len(answer.outputs) == len(answer.raw_output_contents)
    output = answer.outputs[number] if alike else None
    expected = (like.name, like.datatype, [count, *like.shape[1:]])
    if output is None or (output.name, output.datatype, list(output.shape)) != expected:
        raise BadResponse(f"two versions answer unlike each other: one of them with {like.name} of {list(like.shape)}")
    data = answer.raw_output_contents[number]
    width = math.prod(output.shape[1:])
    if output.datatype != _BYTES:
        size = np.dtype(_DTYPES[output.datatype]).itemsize * width
        return [data[at : at + size] for at in range(0, size * count, size)]
    parts = _split(data) or []
    return [pack_texts(parts[at : at + width]) for at in range(0, width * count, width)]


def written(answer: ModelInferResponse, request: Request) -> tuple[bytes, dict[str, str]]:
    """Return an answer as HTTP gives it, body and headers, in the form that the request wants."""
    whole = bool((request.parameters or {}).get("binary_data_output"))
    chosen = {output.name: (output.parameters or {}).get("binary_data", whole) for output in request.outputs or ()}
    head: dict[str, Any] = {"model_name": answer.model_name, "model_version": answer.model_version}
    if answer.id:
        head["id"] = answer.id
    if answer.parameters:
        head["parameters"] = {
            name: getattr(value, choice)
            for name, value in answer.parameters.items()
            if (choice := value.WhichOneof("parameter_choice"))
        }
    outputs, tail = [], b""
    for output, data in zip(answer.outputs, answer.raw_output_contents, strict=True):
        about: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if chosen.get(output.name, whole):
            about["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            about["data"] = _values(output.datatype, data)
        outputs.append(about)
    body = msgspec.json.encode({**head, "outputs": outputs})
    if not tail:
        return body, {"Content-Type": "application/json"}
    return body + tail, {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(body))}


def labels(answer: ModelInferResponse) -> list[str] | None:
    """Return the labels of an answer, None where they are not among what was asked for."""
    for output, data in zip(answer.outputs, answer.raw_output_contents, strict=False):
        if output.name == LABEL and (parts := _split(data)) and len(parts) == output.shape[0]:
            return [part.decode(errors="replace") for part in parts]
    return None


def labels_over_http(body: bytes, headers: Mapping[str, str]) -> list[str] | None:
    """Return the same of an answer of Triton's HTTP side."""
    length = headers.get(HEADER_LENGTH)
    at = int(length) if length else len(body)
    try:
        for output in msgspec.json.decode(body[:at])["outputs"]:
            size = (output.get("parameters") or {}).get("binary_data_size", 0)
            if output["name"] == LABEL:
                parts = _split(body[at : at + size]) or [] if size else [text.encode() for text in output["data"]]
                return [part.decode(errors="replace") for part in parts] if len(parts) == output["shape"][0] else None
            at += size
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):  # packed, or of another shape
        return None
    return None


def _values(datatype: str, data: bytes) -> list[Any]:
    if datatype == _BYTES:
        return [part.decode(errors="replace") for part in _split(data) or ()]
    values: list[Any] = np.frombuffer(data, dtype=_DTYPES[datatype]).tolist()
    return values


def _split(data: bytes) -> list[bytes] | None:
    """Return the elements of a BYTES tensor, None where lengths and data do not agree."""
    parts, at = [], 0
    while at < len(data):
        end = at + _LENGTH + int.from_bytes(data[at : at + _LENGTH], "little")
        if end > len(data) or at + _LENGTH > len(data):
            return None
        parts.append(data[at + _LENGTH : end])
        at = end
    return parts


def _set(held: Any, parameters: Mapping[str, Any] | None) -> None:
    for name, value in (parameters or {}).items():
        if name in _OF_HTTP:
            continue
        if isinstance(value, bool):
            held[name].bool_param = value
        elif isinstance(value, int):
            held[name].int64_param = value
        elif isinstance(value, float):
            held[name].double_param = value
        else:
            held[name].string_param = value

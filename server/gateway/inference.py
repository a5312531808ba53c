"""An inference request of the Open Inference Protocol, read before it is passed on, and written anew.

Triton ends of some requests, and reads the first of two members of one name where others read the last: so it is given
what was read here, and nothing else.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from newsdesk.clients.tensors import ALL_CLASSES, pack_texts
from newsdesk.server.contract import MAX_TEXT_BYTES
from newsdesk.server.gateway import structure
from newsdesk.server.gateway.problems import Malformed, TooLarge

HEADER_LENGTH = "inference-header-content-length"
MOST_TENSORS = 64
_MOST_DIMENSIONS, _LARGEST = 8, 2**31 - 1
_LONGEST_SEQUENCE = 128
_SHOWN = 16
_INTEGERS = range(-(2**63), 2**64)
_LENGTH_BYTES = 4
_SIZES = dict.fromkeys(("BOOL", "INT8", "UINT8"), 1) | dict.fromkeys(("INT16", "UINT16", "FP16", "BF16"), 2)
_SIZES |= dict.fromkeys(("INT32", "UINT32", "FP32"), 4) | dict.fromkeys(("INT64", "UINT64", "FP64"), 8)
_Datatype = Literal["BOOL", "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64", "FP16", "BF16",
                    "FP32", "FP64", "BYTES"]  # fmt: skip

_Parameters = dict[str, bool | int | float | str | None]
_Shape = Annotated[list[Annotated[int, Meta(ge=1, le=_LARGEST)]], Meta(min_length=1, max_length=_MOST_DIMENSIONS)]


class RequestTensor(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An input of a request. Without `data` its elements are in the binary part."""

    name: str
    datatype: _Datatype
    shape: _Shape
    parameters: _Parameters | None = None
    data: Raw | UnsetType = UNSET


class Output(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An output that a request wants."""

    name: str
    parameters: _Parameters | None = None


class Request(Struct, omit_defaults=True):
    """A request as it is read. Other members, which KServe's client has and Triton passes over, are left out."""

    inputs: Annotated[list[RequestTensor], Meta(max_length=MOST_TENSORS)]
    id: str | None = None
    parameters: _Parameters | None = None
    outputs: Annotated[list[Output], Meta(max_length=MOST_TENSORS)] | None = None

    def classified(self) -> list[str]:
        """Return the names of the outputs that are wanted as classes."""
        return [output.name for output in self.outputs or () if "classification" in (output.parameters or {})]


def read(body: bytes, header_length: str | None, most_values: int) -> tuple[Request | None, bytes]:
    """Read a request's body.

    Args:
        body: JSON, and binary data behind it
        header_length: bytes of the JSON, as the header says it; None: all of the body
        most_values: of the JSON that are taken

    Returns:
        The request, and what of the body is binary. A length of 0 means that all of it is one text: no request.

    Raises:
        Malformed: it is no inference request, or one that Triton had better not see.
        TooLarge: it holds more values than are taken.
    """
    length = len(body) if header_length is None else _length(header_length, len(body))
    if header_length is not None and not length:
        _check_texts([len(body)])
        return None, body
    head, binary = body[:length], body[length:]
    structure.check(head, most_values)
    try:
        request = msgspec.json.decode(head, type=Request)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(f"The body is not an inference request: {error}.") from None
    check(request, binary, most_values)
    return request, binary


def check(request: Request, binary: bytes, most_values: int) -> None:
    """Check a request, and leave out the parameters that say nothing.

    Raises:
        Malformed: it holds what Triton had better not see.
        TooLarge: an input has more than `most_values` texts.
    """
    request.parameters = _checked(request.parameters, _OF_REQUEST, "the request's parameters")
    for output in request.outputs or ():
        output.parameters = _checked(output.parameters, _OF_OUTPUT, f"the parameters of output {output.name!r:.80}")
    _check_inputs(request.inputs, binary, most_values)


def written(request: Request, binary: bytes) -> tuple[bytes, int]:
    """Return the body that says the same, and the length of its JSON."""
    head = msgspec.json.encode(request)
    return head + binary, len(head)


def content(request: Request, binary: bytes) -> bytes:
    """Return what of a request the model reads: the same whatever its id or timeout, and over HTTP and gRPC alike.

    To be called for a request that was checked.
    """
    inputs = [(tensor.name, tensor.datatype, tensor.shape) for tensor in request.inputs]
    wanted = [(output.name, (output.parameters or {}).get("classification")) for output in request.outputs or ()]
    return b"".join((msgspec.json.encode((inputs, wanted)), *(elements(request.inputs, binary))))


def check_classified(names: list[str], config: Mapping[str, Any]) -> None:
    """Check that outputs wanted as classes have labels: Triton divides by their number, 0.

    Args:
        names: of those outputs
        config: Triton's configuration of the model

    Raises:
        Malformed: one has none.
    """
    labelled = [output["name"] for output in config.get("output", ()) if output.get("label_filename")]
    for name in names:
        if name not in labelled:
            raise Malformed(
                f"Output {name!r:.80} is wanted with `classification`, which only outputs with labels have: "
                f"{', '.join(labelled) or 'none of this model'}."
            )


def _length(header: str, most: int) -> int:
    if not (header.isascii() and header.isdigit() and len(header) < len(str(_LARGEST)) and int(header) <= most):
        raise Malformed(
            f"Inference-Header-Content-Length is {header!r:.40}, expected the bytes of the JSON: 0 to {most}."
        )
    return int(header)


def _checked(sent: _Parameters | None, kinds: Mapping[str, tuple[type, range]], where: str) -> _Parameters | None:
    """Return the parameters that say something. Raises Malformed for what is not of its kind, or not passed on."""
    parameters: _Parameters = {name: value for name, value in (sent or {}).items() if value is not None}
    for name, value in parameters.items():
        if name.startswith("shared_memory") or (name == "classification" and name not in kinds):
            raise Malformed(f"{name!r:.80} is among {where}: it is not taken there.")
        if name == "sequence_id" and isinstance(value, str) and len(value.encode()) > _LONGEST_SEQUENCE:
            raise Malformed(f"'sequence_id' is longer than {_LONGEST_SEQUENCE} bytes, the most that Triton takes.")
        kind, bounds = kinds.get(name, (type(value), _INTEGERS))
        if type(value) is not kind or (isinstance(value, int) and value not in bounds):
            expected = f"an integer of {bounds.start} to {bounds.stop - 1}" if kind is int else f"a {kind.__name__}"
            raise Malformed(f"{name!r:.80} is {value!r:.80} among {where}, expected {expected}.")
    return parameters or None


_NATURAL = int, range(2**63)
_TRUTH = bool, range(2)
_OF_REQUEST: dict[str, tuple[type, range]] = {
    "priority": _NATURAL, "timeout": _NATURAL, "sequence_start": _TRUTH, "sequence_end": _TRUTH,
    "binary_data_output": _TRUTH,
}  # fmt: skip
_OF_OUTPUT: dict[str, tuple[type, range]] = {"classification": (int, range(1, ALL_CLASSES + 1)), "binary_data": _TRUTH}
_OF_INPUT: dict[str, tuple[type, range]] = {"binary_data_size": _NATURAL}


def _check_inputs(inputs: list[RequestTensor], binary: bytes, most_values: int) -> None:
    """Raises Malformed where shapes, sizes and bytes do not agree, TooLarge for more than `most_values` texts."""
    place = 0
    for tensor in inputs:
        tensor.parameters = _checked(tensor.parameters, _OF_INPUT, f"the parameters of input {tensor.name!r:.80}")
        size = (tensor.parameters or {}).get("binary_data_size")
        count = math.prod(tensor.shape)
        if (size is None) == (tensor.data is UNSET):
            raise Malformed(f"Input {tensor.name!r:.80} needs either data or binary_data_size.")
        if isinstance(tensor.data, Raw):
            _check_data(tensor, bytes(tensor.data), count)
            continue
        assert isinstance(size, int)
        part = binary[place : place + size]
        place += size
        if len(part) < size:
            _disagree(tensor, f"{size} bytes, and {len(part)} are left")
        if tensor.datatype == "BYTES":
            if count > most_values:
                if count > size // _LENGTH_BYTES:
                    _disagree(tensor, f"{size} bytes")
                raise TooLarge(f"Input {tensor.name!r:.80} is of more than {most_values} texts: send fewer at once.")
            lengths = list(_lengths(tensor, part, count))
            if len(lengths) != count:
                _disagree(tensor, f"{len(lengths)} elements")
            _check_texts(lengths)
        elif size != count * _SIZES[tensor.datatype]:
            _disagree(tensor, f"{size} bytes")
    if place != len(binary):
        raise Malformed(f"{len(binary)} bytes follow the JSON, but its binary_data_size are {place} together.")


def _check_data(tensor: RequestTensor, data: bytes, count: int) -> None:
    if not data.startswith(b"["):
        raise Malformed(f"The data of input {tensor.name!r:.80} is not a list.")
    if count > len(data):
        _disagree(tensor, f"{len(data)} bytes of JSON")
    if tensor.datatype == "BYTES" and len(data) > MAX_TEXT_BYTES:
        try:
            _check_texts([len(text.encode()) for text in _texts(msgspec.json.decode(data))])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Malformed(f"The data of input {tensor.name!r:.80} cannot be read: {error}.") from None


def elements(inputs: list[RequestTensor], binary: bytes) -> Iterator[bytes]:
    """Yield the data of each input, texts in JSON as if they were binary."""
    place = 0
    for tensor in inputs:
        if not isinstance(tensor.data, Raw):
            size = (tensor.parameters or {})["binary_data_size"]
            assert isinstance(size, int)
            yield binary[place : place + size]
            place += size
        elif tensor.datatype == "BYTES":
            try:
                yield pack_texts([text.encode() for text in _texts(msgspec.json.decode(tensor.data))])
            except (msgspec.DecodeError, UnicodeError, RecursionError):  # Triton says what is wrong with it
                yield bytes(tensor.data)
        else:
            yield bytes(tensor.data)


def _texts(data: Any) -> Iterator[str]:
    if isinstance(data, list):
        for element in data:
            yield from _texts(element)
    elif isinstance(data, str):
        yield data


def _lengths(tensor: RequestTensor, data: bytes, most: int) -> Iterator[int]:
    """Yield the length of each element of a BYTES tensor, of at most one more than there should be."""
    place = 0
    for _ in range(most + 1):
        if place == len(data):
            return
        length = int.from_bytes(data[place : place + _LENGTH_BYTES], "little")
        place += _LENGTH_BYTES + length
        if place > len(data):
            _disagree(tensor, f"{len(data)} bytes, which end within an element")
        yield length


def _check_texts(lengths: list[int]) -> None:
    """Raises Malformed, in the words of the model, for texts that it would refuse for their size."""
    refused = [
        f"text {index}: {length} bytes, expected at most {MAX_TEXT_BYTES}, send a shorter text"
        for index, length in enumerate(lengths)
        if length > MAX_TEXT_BYTES
    ]
    if refused:
        more = f"; and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
        raise Malformed(f"newsdesk refused {len(refused)} of {len(lengths)} texts. {'; '.join(refused[:_SHOWN])}{more}")


def _disagree(tensor: RequestTensor, holds: str) -> NoReturn:
    shape = "×".join(map(str, tensor.shape))
    raise Malformed(f"Input {tensor.name!r:.80} of {shape} {tensor.datatype} holds {holds}: shape and data disagree.")

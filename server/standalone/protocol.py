"""The Open Inference Protocol's JSON, as far as the served model goes: its two inputs and its outputs.

Not spoken: binary tensors, shared memory, classification, other models, repository and statistics extensions.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from newsdesk.server.contract import (
    ANSWERED_BY,
    INPUTS,
    LABEL,
    MAX_BATCH,
    MEMBER_PROBABILITIES,
    OUTPUTS,
    PROBABILITIES,
    QUALITY,
    TEXT,
    UNCERTAINTY,
    UNSURE,
    WINDOWS,
    TensorSpec,
)
from newsdesk.server.runtime.classifier import BatchAnswers, Classifier
from newsdesk.server.runtime.errors import QualityError, TextError
from newsdesk.server.runtime.request import read_qualities, read_texts

_SPECS = {spec.name: spec for spec in OUTPUTS}
_ASKED_FOR = MEMBER_PROBABILITIES, UNCERTAINTY
"""Outputs that are given only where a request names them."""


class RequestError(ValueError):
    """A request that is refused, with the HTTP status."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class _Tensor(Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = {}


class _Output(Struct):
    name: str
    parameters: dict[str, Any] = {}


class _InferRequest(Struct):
    inputs: list[_Tensor]
    id: str = ""
    outputs: list[_Output] = []


@dataclass(frozen=True)
class RequestContent:
    """A request's content.

    Attributes:
        texts: clean, n of them
        qualities: of each, INT64 [n] into QUALITIES
        outputs: the names of those wanted; none means all but those that are given only where they are named
    """

    texts: list[str]
    qualities: np.ndarray
    outputs: list[str]
    id: str


def read(body: bytes) -> RequestContent:
    """Read a request's body.

    Raises:
        RequestError: it is refused, with what was given and expected.
    """
    try:
        request = msgspec.json.decode(body, type=_InferRequest)
    except msgspec.DecodeError as error:
        raise RequestError(f"not an inference request: {error}") from error
    tensors = {tensor.name: tensor for tensor in request.inputs}
    if TEXT not in tensors or tensors.keys() - {TEXT, QUALITY} or len(tensors) < len(request.inputs):
        raise RequestError(
            f"inputs are {[tensor.name for tensor in request.inputs]}, expected {TEXT} and perhaps {QUALITY}"
        )
    raw = {name: _strings(tensor) for name, tensor in tensors.items()}
    count = len(raw[TEXT])
    if len(raw.get(QUALITY, raw[TEXT])) != count:
        raise RequestError(f"{len(raw[QUALITY])} qualities for {count} texts, expected one for each")
    wanted = [output.name for output in request.outputs]
    if unknown := set(wanted) - _SPECS.keys():
        raise RequestError(f"no output {sorted(unknown)[0]!r}, expected of {', '.join(_SPECS)}")
    parameters = [(tensor.name, tensor.parameters) for tensor in request.inputs]
    parameters += [(tensor.name, tensor.parameters) for tensor in request.outputs]
    for name, parameter in parameters:
        if parameter.get("binary_data") or {"binary_data_size", "classification"} & parameter.keys():
            raise RequestError(f"{name}: binary tensors and classification are not spoken here, send plain JSON")
    try:
        quality = np.array(raw[QUALITY], np.object_) if QUALITY in raw else None
        return RequestContent(
            read_texts(np.array(raw[TEXT], np.object_)), read_qualities(quality, count), wanted, request.id
        )
    except (TextError, QualityError) as error:
        raise RequestError(str(error)) from error


def write(model: str, asked: RequestContent, classifier: Classifier, batch: BatchAnswers, own: slice) -> bytes:
    """Return the JSON of the answers to one request. The statuses of errors are Triton's own.

    Args:
        model: its name
        asked: the request
        classifier: that answered
        batch: the answers to several requests
        own: where those to this request stand in it

    Raises:
        RequestError: an answer is no number (500), or the model does not say what is asked for.
    """
    answers = batch.part(own)
    if not (np.isfinite(answers.probabilities).all() and np.isfinite(answers.members).all()):
        raise RequestError("newsdesk computed no finite answer", 500)
    if UNSURE in asked.outputs and not classifier.marks_unsure:
        raise RequestError(f"no output {UNSURE!r}: this model does not say when it is not sure")
    columns: dict[str, Callable[[], np.ndarray]] = {
        LABEL: lambda: np.array(classifier.labels, np.object_)[answers.probabilities.argmax(-1)],
        PROBABILITIES: lambda: answers.probabilities,
        ANSWERED_BY: lambda: np.array(classifier.levels, np.object_)[answers.levels],
        WINDOWS: lambda: answers.windows,
        MEMBER_PROBABILITIES: lambda: answers.members,
        UNCERTAINTY: lambda: classifier.uncertainty(answers),
        UNSURE: lambda: classifier.unsure(answers, asked.qualities),
    }
    written = []
    wanted = asked.outputs or [name for name in outputs(classifier) if name not in _ASKED_FOR]
    for name in wanted:
        column = columns[name]()
        column = column if column.ndim > 1 else column[:, None]
        data = column.ravel().tolist()
        written.append({"name": name, "datatype": _SPECS[name].datatype, "shape": list(column.shape), "data": data})
    head = {"id": asked.id} if asked.id else {}
    return msgspec.json.encode({**head, "model_name": model, "outputs": written})


def outputs(classifier: Classifier) -> list[str]:
    """Return the outputs that a model has."""
    return [name for name in _SPECS if name != UNSURE or classifier.marks_unsure]


def metadata(model: str, version: str, classifier: Classifier) -> bytes:
    """Return the model's metadata, as the protocol has it."""
    labels, members = len(classifier.labels), len(classifier.members)

    def described(specs: Iterable[TensorSpec]) -> list[dict[str, Any]]:
        return [
            {"name": spec.name, "datatype": spec.datatype, "shape": [-1, *spec.sizes(labels, members)]}
            for spec in specs
        ]

    return msgspec.json.encode(
        {
            "name": model,
            "versions": [version],
            "platform": "newsdesk",
            "inputs": described(INPUTS),
            "outputs": described(_SPECS[name] for name in outputs(classifier)),
        }
    )


def _strings(tensor: _Tensor) -> list[bytes]:
    if tensor.datatype != "BYTES":
        raise RequestError(f"{tensor.name}: datatype {tensor.datatype}, expected BYTES")
    count = len(tensor.data)
    if tensor.shape not in ([count, 1], [count]):
        raise RequestError(f"{tensor.name}: shape {tensor.shape} with {count} strings, expected [{count}, 1]")
    if not 1 <= count <= MAX_BATCH:
        raise RequestError(f"{tensor.name}: {count} strings, expected 1 to {MAX_BATCH} in a request")
    if not all(isinstance(text, str) for text in tensor.data):
        raise RequestError(f"{tensor.name}: expected strings alone in `data`")
    return [text.encode("utf-8", "surrogatepass") for text in tensor.data]

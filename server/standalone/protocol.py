"""The Open Inference Protocol's JSON, as far as the served model goes: its two inputs and five outputs.

Not spoken: binary tensors, shared memory, classification, other models, repository and statistics extensions.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from newsdesk.server.runtime.classifier import Answers
from newsdesk.server.runtime.errors import QualityError, TextError
from newsdesk.server.runtime.request import read_qualities, read_texts

MAX_TEXTS = 64
TYPES = {
    "LABEL": "BYTES",
    "PROBABILITIES": "FP32",
    "ANSWERED_BY": "BYTES",
    "WINDOWS": "INT32",
    "MEMBER_PROBABILITIES": "FP32",
}
_ASKED_FOR = "MEMBER_PROBABILITIES"
"""Only given where it is named among the outputs."""


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


class _Body(Struct):
    inputs: list[_Tensor]
    id: str = ""
    outputs: list[_Output] = []


@dataclass(frozen=True)
class Asked:
    """A request: clean texts, their qualities, INT64 [n] into QUALITIES, and the names of the outputs wanted."""

    texts: list[str]
    qualities: np.ndarray
    outputs: list[str]
    id: str


def read(body: bytes) -> Asked:
    """Raises RequestError with what was given and expected."""
    try:
        given = msgspec.json.decode(body, type=_Body)
    except msgspec.DecodeError as error:
        raise RequestError(f"not an inference request: {error}") from error
    tensors = {tensor.name: tensor for tensor in given.inputs}
    if "TEXT" not in tensors or tensors.keys() - {"TEXT", "QUALITY"} or len(tensors) < len(given.inputs):
        raise RequestError(f"inputs are {[one.name for one in given.inputs]}, expected TEXT and perhaps QUALITY")
    raw = {name: _strings(tensor) for name, tensor in tensors.items()}
    count = len(raw["TEXT"])
    if len(raw.get("QUALITY", raw["TEXT"])) != count:
        raise RequestError(f"{len(raw['QUALITY'])} qualities for {count} texts, expected one for each")
    wanted = [output.name for output in given.outputs] or [name for name in TYPES if name != _ASKED_FOR]
    if unknown := set(wanted) - TYPES.keys():
        raise RequestError(f"no output {sorted(unknown)[0]!r}, expected of {', '.join(TYPES)}")
    parameters = [(one.name, one.parameters) for one in given.inputs]
    parameters += [(one.name, one.parameters) for one in given.outputs]
    for name, said in parameters:
        if said.get("binary_data") or {"binary_data_size", "classification"} & said.keys():
            raise RequestError(f"{name}: binary tensors and classification are not spoken here, send plain JSON")
    try:
        quality = np.array(raw["QUALITY"], np.object_) if "QUALITY" in raw else None
        return Asked(read_texts(np.array(raw["TEXT"], np.object_)), read_qualities(quality, count), wanted, given.id)
    except (TextError, QualityError) as error:
        raise RequestError(str(error)) from error


def write(model: str, asked: Asked, labels: list[str], stages: list[str], answers: Answers, own: slice) -> bytes:
    """Return the JSON of the answers to one request, which stand at `own`. Raises RequestError where one is no number.

    The statuses are Triton's own: 500 for what could not be computed.
    """
    probabilities, members = answers.probabilities[own], answers.members[own]
    if not (np.isfinite(probabilities).all() and np.isfinite(members).all()):
        raise RequestError("newsdesk computed no finite answer", 500)
    columns: dict[str, np.ndarray] = {
        "LABEL": np.array(labels, np.object_)[probabilities.argmax(-1)],
        "PROBABILITIES": probabilities,
        "ANSWERED_BY": np.array(stages, np.object_)[answers.stages[own]],
        "WINDOWS": answers.windows[own],
        "MEMBER_PROBABILITIES": members,
    }
    outputs = []
    for name in asked.outputs:
        column = columns[name] if columns[name].ndim > 1 else columns[name][:, None]
        data = column.ravel().tolist()
        outputs.append({"name": name, "datatype": TYPES[name], "shape": list(column.shape), "data": data})
    head = {"id": asked.id} if asked.id else {}
    return msgspec.json.encode({**head, "model_name": model, "outputs": outputs})


def metadata(model: str, version: str, labels: int, members: int) -> bytes:
    """Return the model's metadata, as the protocol has it."""
    shapes = {"PROBABILITIES": [-1, labels], "MEMBER_PROBABILITIES": [-1, members, labels]}
    outputs = [{"name": name, "datatype": kind, "shape": shapes.get(name, [-1, 1])} for name, kind in TYPES.items()]
    inputs = [{"name": name, "datatype": "BYTES", "shape": [-1, 1]} for name in ("TEXT", "QUALITY")]
    return msgspec.json.encode(
        {"name": model, "versions": [version], "platform": "newsdesk", "inputs": inputs, "outputs": outputs}
    )


def _strings(tensor: _Tensor) -> list[bytes]:
    if tensor.datatype != "BYTES":
        raise RequestError(f"{tensor.name}: datatype {tensor.datatype}, expected BYTES")
    count = len(tensor.data)
    if tensor.shape not in ([count, 1], [count]):
        raise RequestError(f"{tensor.name}: shape {tensor.shape} with {count} strings, expected [{count}, 1]")
    if not 1 <= count <= MAX_TEXTS:
        raise RequestError(f"{tensor.name}: {count} strings, expected 1 to {MAX_TEXTS} in a request")
    if not all(isinstance(one, str) for one in tensor.data):
        raise RequestError(f"{tensor.name}: expected strings alone in `data`")
    return [one.encode("utf-8", "surrogatepass") for one in tensor.data]

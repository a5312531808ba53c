"""The tensors of `newsdesk.server.contract` in the binary layout that Triton's gRPC and HTTP protocols share."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from newsdesk.clients.errors import BadResponse, Incomplete
from newsdesk.clients.options import Options
from newsdesk.clients.transports import ModelFacts, ServerAnswer
from newsdesk.server.contract import (
    ANSWERED_BY,
    DEFAULT_QUALITY,
    LABEL,
    LABELS_PROBE,
    MEMBER_PROBABILITIES,
    PROBABILITIES,
    QUALITY,
    STANDARD_OUTPUTS,
    TEXT,
    UNCERTAINTY,
    UNSURE,
    WINDOWS,
)

# A model that an older build wrote has neither of the two.
OPTIONAL = frozenset((UNCERTAINTY, UNSURE))
# The classification extension returns at most as many classes as there are.
ALL_CLASSES = 1_000_000
# Only the label names are wanted from it.
PROBE_TEXT = LABELS_PROBE.encode()


@dataclass(frozen=True, slots=True)
class Tensor:
    """An output as it came: the shape, and the elements (BYTES: each behind its length, UINT32 little endian)."""

    shape: tuple[int, ...]
    data: bytes


def pack_texts(texts: Sequence[bytes]) -> bytes:
    """Return the elements of a BYTES tensor: each behind its length, UINT32 little endian."""
    return b"".join(part for text in texts for part in (struct.pack("<I", len(text)), text))


def unpack_texts(data: bytes) -> list[str]:
    """Return the elements of a BYTES tensor.

    Raises:
        BadResponse: lengths and data do not agree, or an element is no UTF-8.
    """
    texts = []
    at = 0
    try:
        while at < len(data):
            (length,) = struct.unpack_from("<I", data, at)
            at += 4 + length
            if at > len(data):
                raise BadResponse(f"a BYTES tensor announces {length} bytes where {len(data) - at + length} are left")
            texts.append(data[at - length : at].decode())
    except (struct.error, UnicodeDecodeError) as error:
        raise BadResponse(f"a BYTES tensor cannot be read: {error}") from error
    return texts


def inputs(texts: Sequence[bytes], options: Options) -> dict[str, bytes]:
    """Return the elements of each input, BYTES [N, 1].

    QUALITY is always among them: Triton makes no batch of requests that have it and requests that do not.
    """
    quality = (options.quality or DEFAULT_QUALITY).encode()
    return {TEXT: pack_texts(texts), QUALITY: pack_texts([quality] * len(texts))}


def outputs(options: Options, model: ModelFacts) -> tuple[str, ...]:
    """Return the names of the outputs to ask for: of OPTIONAL ones those that the model has."""
    wanted = {MEMBER_PROBABILITIES: options.members, UNSURE: UNSURE in model.outputs}
    wanted[UNCERTAINTY] = options.uncertainty and UNCERTAINTY in model.outputs
    return (*STANDARD_OUTPUTS, *(name for name, is_wanted in wanted.items() if is_wanted))


def read_answers(
    tensors: Mapping[str, Tensor], count: int, model: ModelFacts, options: Options, versions: Sequence[str] = ("",)
) -> list[ServerAnswer]:
    """Return the answers to texts.

    Args:
        tensors: the outputs, by name
        count: texts that were sent
        model: that was asked
        options: of the call
        versions: that `read_versions` returns

    Raises:
        Incomplete: an output is missing.
        BadResponse: a shape is wrong, or a number is NaN or Inf.
    """
    asked = outputs(options, model)
    missing = [name for name in asked if name not in tensors]
    if missing:
        raise Incomplete(f"the answer has no {', '.join(missing)}: is the model one of newsdesk's?")
    probabilities = _numbers(tensors, PROBABILITIES, "<f4", (count, None))
    windows = _numbers(tensors, WINDOWS, "<i4", (count, 1))
    members: Sequence[Any] = [None] * count
    unsure: Sequence[Any] = members
    uncertainty: Sequence[Any] = members
    if UNSURE in asked:
        unsure = _numbers(tensors, UNSURE, "?", (count, 1)).ravel().tolist()
    if UNCERTAINTY in asked:
        uncertainty = _numbers(tensors, UNCERTAINTY, "<f4", (count, 3)).tolist()
    if options.members:
        members = _numbers(
            tensors, MEMBER_PROBABILITIES, "<f4", (count, len(model.members), len(model.labels))
        ).tolist()
    columns = (
        _column(tensors[LABEL], LABEL, count),
        probabilities.tolist(),
        _column(tensors[ANSWERED_BY], ANSWERED_BY, count),
        windows.ravel().tolist(),
        members,
        unsure,
        uncertainty,
        versions if len(versions) == count else [versions[0]] * count,
    )
    return [ServerAnswer(*row) for row in zip(*columns, strict=True)]


def read_versions(version: str, parameter: str | None) -> list[str]:
    """Return the version that answered, or that of each text where VERSIONS among the answer's parameters says so."""
    return parameter.split(",") if parameter else [version]


def read_labels(outputs: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the label names in the model's order, from `probability:position:name` of the classification extension.

    https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md

    Raises:
        BadResponse: the output or its names are missing.
    """
    if PROBABILITIES not in outputs:
        raise BadResponse(f"the answer has no {PROBABILITIES}: is the model one of newsdesk's?")
    classes = [text.split(":", 2) for text in unpack_texts(outputs[PROBABILITIES].data)]
    if not classes or any(len(parts) != 3 for parts in classes):
        raise BadResponse(f"the model names no labels: its configuration needs label_filename for {PROBABILITIES}")
    return tuple(name for _, name in sorted((int(position), name) for _, position, name in classes))


def read_members(parameter: str) -> tuple[str, ...]:
    """Return the names of the members from `members` of the model's configuration: "student,minilm"."""
    return tuple(filter(None, parameter.split(",")))


def _numbers(outputs: Mapping[str, Tensor], name: str, dtype: str, expected: tuple[int | None, ...]) -> NDArray[Any]:
    tensor = outputs[name]
    fits = len(tensor.shape) == len(expected) and all(
        wanted in (None, size) for size, wanted in zip(tensor.shape, expected, strict=True)
    )
    if not fits or len(tensor.data) != np.dtype(dtype).itemsize * math.prod(tensor.shape):
        wanted = ", ".join("number of labels" if size is None else str(size) for size in expected)
        raise BadResponse(f"{name} has shape {list(tensor.shape)} in {len(tensor.data)} bytes, expected [{wanted}]")
    rows: NDArray[Any] = np.frombuffer(tensor.data, dtype=dtype).reshape(tensor.shape)
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise BadResponse(f"{name} holds NaN or Inf: the model is broken, see the server's log")
    return rows


def _column(tensor: Tensor, name: str, count: int) -> list[str]:
    texts = unpack_texts(tensor.data)
    if tensor.shape != (count, 1) or len(texts) != count:
        raise BadResponse(f"{name} has shape {list(tensor.shape)} with {len(texts)} elements, expected [{count}, 1]")
    return texts

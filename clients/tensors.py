"""The model's contract as tensors, in the binary layout that Triton's gRPC and HTTP protocols share."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from newsdesk.clients.errors import BadResponse

INPUT = "TEXT"
OUTPUTS = ("LABEL", "PROBABILITIES", "ANSWERED_BY")
LABELLED_OUTPUT = "PROBABILITIES"
# The classification extension returns at most as many classes as there are.
ALL_CLASSES = 1_000_000
# Only the label names are wanted from it.
PROBE_TEXT = b"Which labels are there?"


@dataclass(frozen=True, slots=True)
class Tensor:
    """An output as it came: the shape, and the elements (BYTES: each behind its length, UINT32 little endian)."""

    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Answers:
    """The three outputs for N texts: N labels, N rows of probabilities in the model's label order, N members."""

    labels: list[str]
    probabilities: list[list[float]]
    answered_by: list[str]


def pack_texts(texts: Sequence[bytes]) -> bytes:
    """Return the elements of a BYTES tensor."""
    return b"".join(part for text in texts for part in (struct.pack("<I", len(text)), text))


def unpack_texts(data: bytes) -> list[str]:
    """Return the elements of a BYTES tensor. Raises BadResponse where lengths and data do not agree."""
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


def read_answers(outputs: Mapping[str, Tensor], count: int) -> Answers:
    """Return the answers to `count` texts. Raises BadResponse for missing outputs, wrong shapes, NaN and Inf."""
    missing = [name for name in OUTPUTS if name not in outputs]
    if missing:
        raise BadResponse(f"the answer has no {', '.join(missing)}: is the model one of newsdesk's?")
    labels, probabilities, answered_by = (outputs[name] for name in OUTPUTS)
    shape = probabilities.shape
    if len(shape) != 2 or shape[0] != count or len(probabilities.data) != 4 * shape[0] * shape[1]:
        raise BadResponse(f"PROBABILITIES has shape {list(shape)}, expected [{count}, number of labels] FP32")
    rows = np.frombuffer(probabilities.data, dtype="<f4").reshape(shape)
    if not np.isfinite(rows).all():
        raise BadResponse("PROBABILITIES holds NaN or Inf: the model is broken, see the server's log")
    return Answers(_column(labels, "LABEL", count), rows.tolist(), _column(answered_by, "ANSWERED_BY", count))


def read_labels(outputs: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the label names in the model's order, from `probability:position:name` of the classification extension.

    https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md
    """
    if LABELLED_OUTPUT not in outputs:
        raise BadResponse(f"the answer has no {LABELLED_OUTPUT}: is the model one of newsdesk's?")
    classes = [text.split(":", 2) for text in unpack_texts(outputs[LABELLED_OUTPUT].data)]
    if not classes or any(len(parts) != 3 for parts in classes):
        raise BadResponse(f"the model names no labels: its configuration needs label_filename for {LABELLED_OUTPUT}")
    return tuple(name for _, name in sorted((int(position), name) for _, position, name in classes))


def _column(tensor: Tensor, name: str, count: int) -> list[str]:
    texts = unpack_texts(tensor.data)
    if tensor.shape != (count, 1) or len(texts) != count:
        raise BadResponse(f"{name} has shape {list(tensor.shape)} with {len(texts)} elements, expected [{count}, 1]")
    return texts

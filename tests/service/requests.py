"""Requests as other people's clients send them."""

import http.client
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from tritonclient import grpc

Text = str | bytes


def tensor(texts: Sequence[Text], module: Any = grpc) -> Any:
    """Return TEXT [N,1] for tritonclient's grpc or http module."""
    encoded = [text.encode() if isinstance(text, str) else text for text in texts]
    tensor_input = module.InferInput("TEXT", [len(texts), 1], "BYTES")
    tensor_input.set_data_from_numpy(np.array(encoded, np.object_).reshape(-1, 1))
    return tensor_input


def quality(qualities: Sequence[Text], module: Any = grpc) -> Any:
    """Return QUALITY [N,1] for tritonclient's grpc or http module."""
    encoded = [name.encode() if isinstance(name, str) else name for name in qualities]
    tensor_input = module.InferInput("QUALITY", [len(encoded), 1], "BYTES")
    tensor_input.set_data_from_numpy(np.array(encoded, np.object_).reshape(-1, 1))
    return tensor_input


def labels(client: Any, texts: Sequence[Text]) -> list[str]:
    """Classify over gRPC; return the labels."""
    return [label.decode() for label in client.infer("ag_news", [tensor(texts)]).as_numpy("LABEL").ravel()]


def probabilities(client: Any, texts: Sequence[Text]) -> np.ndarray:
    """Classify over gRPC; return FP32 [N, labels]."""
    return client.infer("ag_news", [tensor(texts)]).as_numpy("PROBABILITIES")


def post(port: int, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """POST a body to the model's inference address, however wrong it is; return status and response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", "/v2/models/ag_news/infer", body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def oip(data: Sequence[Any], shape: Sequence[int] | None = None, **changes: Any) -> bytes:
    """Return an Open Inference Protocol request in JSON; `changes` are made to its one input."""
    tensor_input = {
        "name": "TEXT",
        "shape": list(shape or [len(data), 1]),
        "datatype": "BYTES",
        "data": list(data),
    } | changes
    return json.dumps({"inputs": [tensor_input]}).encode()

"""A gateway with its gRPC port, and requests to it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from newsdesk.clients.tensors import pack_texts

INFER = "/v2/models/ag_news/infer"
SERVICE = "/inference.GRPCInferenceService/"


@dataclass
class Front:
    """A gateway with both ports, which asks for keys and takes 1 MiB and 300 texts."""

    address: str
    http: httpx.Client
    folder: Path
    key: str
    operator: str

    def stub(self, key: str | None = None, **options: Any) -> tuple[service_pb2_grpc.GRPCInferenceServiceStub, Any]:
        channel = grpc.insecure_channel(self.address, options=list(options.items()))
        return service_pb2_grpc.GRPCInferenceServiceStub(channel), bearer(self.key if key is None else key)


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),) if key else ()


def headers(key: str) -> dict[str, str]:
    return dict(bearer(key))


def request(*texts: str, **more: Any) -> service_pb2.ModelInferRequest:
    """Return a request with raw contents."""
    made = service_pb2.ModelInferRequest(model_name="ag_news", **more)
    made.inputs.add(name="TEXT", datatype="BYTES", shape=[len(texts), 1])
    made.raw_input_contents.append(pack_texts([text.encode() for text in texts]))
    return made


def typed(*texts: str, datatype: str = "BYTES") -> service_pb2.ModelInferRequest:
    made = service_pb2.ModelInferRequest(model_name="ag_news", id="typed")
    made.inputs.add(name="TEXT", datatype=datatype, shape=[len(texts), 1]).contents.bytes_contents.extend(
        text.encode() for text in texts
    )
    return made


def refused(call: Callable[[], Any]) -> tuple[str, str, dict[str, str]]:
    """Return code, details and trailers of the error that a call ends with."""
    with pytest.raises(grpc.RpcError) as error:
        call()
    failure = error.value
    return failure.code().name, failure.details(), dict(failure.trailing_metadata())  # type: ignore[attr-defined]

"""Triton's gRPC protocol, with raw (binary) tensors.

The protocol's own messages are used, not tritonclient's InferenceServerClient: the same two messages serve the
blocking and the asyncio transport, errors keep their status code, and no numpy object arrays are built.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

# Read by grpc when it is imported: without it a forked process cannot open a channel once its parent has used one.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

import grpc
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from newsdesk.clients.errors import BadResponse, NewsdeskError, error_of
from newsdesk.clients.http2 import CallFailed, Channel
from newsdesk.clients.options import Options
from newsdesk.clients.shared_memory import Regions
from newsdesk.clients.tensors import (
    ALL_CLASSES,
    OPTIONAL,
    PROBE_TEXT,
    Tensor,
    inputs,
    outputs,
    read_answers,
    read_labels,
    read_members,
    read_versions,
)
from newsdesk.clients.trace import carried
from newsdesk.clients.transports import Address, ModelFacts, ServerAnswer, current, only
from newsdesk.server.contract import PROBABILITIES, VERSIONS

PREFIX = "/inference.GRPCInferenceService/"
"""The path of each method begins with it."""
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Our retries decide when to try again: gRPC's own pause after a refused connection grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # One client's broken connection is not another's.
    ("grpc.use_local_subchannel_pool", 1),
    # gRPC would send even loopback addresses to the proxy that http_proxy names.
    ("grpc.enable_http_proxy", 0),
)


class GrpcTransport:
    """The blocking transport. A gRPC channel is one HTTP/2 connection that any number of threads may use at once."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._channel = _open(address)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._regions = Regions(self._stub, address.url) if address.shared_memory else None

    def models(self, timeout: float) -> tuple[str, ...]:
        """Return the names of the models that are served."""
        try:
            known = {"timeout": timeout, "metadata": _presented(self._address)}
            return _names(self._stub.ModelStatistics(service_pb2.ModelStatisticsRequest(), **known))
        except grpc.RpcError as error:
            raise _error(error, self._address) from error

    def describe(self, name: str, timeout: float) -> ModelFacts:
        """Return what a model is."""
        name = name or only(self.models(timeout), self._address.url)
        try:
            known = {"timeout": timeout, "metadata": _presented(self._address)}
            config = self._stub.ModelConfig(service_pb2.ModelConfigRequest(name=name), **known)
            probe = self._stub.ModelInfer(_probe_request(name), **known)
        except grpc.RpcError as error:
            raise _error(error, self._address) from error
        return _model(name, config.config, probe)

    def infer(self, texts: Sequence[bytes], model: ModelFacts, options: Options, timeout: float) -> list[ServerAnswer]:
        """Return an answer for each text."""
        request, end = _infer_request(texts, options, model), time.monotonic() + timeout
        try:
            with self._regions.shared(request, timeout) if self._regions else contextlib.nullcontext():
                response = self._stub.ModelInfer(
                    request, timeout=max(end - time.monotonic(), 0), metadata=_metadata(self._address)
                )
        except grpc.RpcError as error:
            raise _error(error, self._address) from error
        return read_answers(_outputs(response), len(texts), model, options, _versions(response))

    def close(self) -> None:
        """Close the connection."""
        if self._regions:
            self._regions.close()
        self._channel.close()


class AsyncGrpcTransport:
    """The transport for the event loop that it is made in."""

    def __init__(self, address: Address, lean: bool = False) -> None:
        """Open a channel, of gRPC's own or, to a Triton without TLS, a `lean` one."""
        self._address = address
        self._channel: UnaryCalls = Channel(address.netloc) if lean and address.scheme == "grpc" else _Futures(address)

    async def models(self, timeout: float) -> tuple[str, ...]:
        """Return the names of the models that are served."""
        asked = service_pb2.ModelStatisticsRequest()
        return _names(await self._ask("ModelStatistics", asked, service_pb2.ModelStatisticsResponse, timeout))

    async def describe(self, name: str, timeout: float) -> ModelFacts:
        """Return what a model is."""
        name = name or only(await self.models(timeout), self._address.url)
        asked = service_pb2.ModelConfigRequest(name=name)
        config = await self._ask("ModelConfig", asked, service_pb2.ModelConfigResponse, timeout)
        probe = await self._ask("ModelInfer", _probe_request(name), service_pb2.ModelInferResponse, timeout)
        return _model(name, config.config, probe)

    async def infer(
        self, texts: Sequence[bytes], model: ModelFacts, options: Options, timeout: float
    ) -> list[ServerAnswer]:
        """Return an answer for each text."""
        request = _infer_request(texts, options, model)
        response = await self._ask("ModelInfer", request, service_pb2.ModelInferResponse, timeout, traced=True)
        return read_answers(_outputs(response), len(texts), model, options, _versions(response))

    async def _ask(self, method: str, request: Any, kind: Any, timeout: float, traced: bool = False) -> Any:
        metadata = _metadata(self._address) if traced else _presented(self._address)
        try:
            answer = await self._channel.call(PREFIX + method, request.SerializeToString(), timeout, metadata)
        except CallFailed as error:
            raise error_of(error.code, error.details, self._address.url, error.retry_after) from error
        return kind.FromString(answer)

    async def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def abandon(self) -> None:
        """Close the connection, when the loop has ended."""
        self._channel.close()


class UnaryCalls(Protocol):
    """A channel over which one message is asked and answered at a time, by any number of callers."""

    async def call(self, path: str, message: bytes, timeout: float, metadata: Sequence[tuple[str, str]]) -> bytes:
        """Return the answer. Raises CallFailed where the server answers with an error, or not."""

    def close(self) -> None:
        """Close the connection."""


class _Futures:
    """A blocking channel, whose futures are waited for in the running loop.

    Not grpc.aio: once a process has used that, gRPC hangs in every process forked from it.
    """

    def __init__(self, address: Address) -> None:
        self._channel = _open(address)
        self._methods: dict[str, Any] = {}

    async def call(self, path: str, message: bytes, timeout: float, metadata: Sequence[tuple[str, str]]) -> bytes:
        method = self._methods.get(path) or self._methods.setdefault(path, self._channel.unary_unary(path))
        try:
            answer: bytes = await _end(method.future(message, timeout=timeout, metadata=metadata))
        except grpc.RpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            details = error.details() or "no details"
            raise CallFailed(error.code().name, details, trailers.get("retry-after")) from error
        return answer

    def close(self) -> None:
        self._channel.close()


def _open(address: Address) -> grpc.Channel:
    if address.scheme == "grpc":
        return grpc.insecure_channel(address.netloc, options=CHANNEL_OPTIONS)
    files = address.ca_file, address.key_file, address.cert_file
    credentials = grpc.ssl_channel_credentials(*(Path(file).read_bytes() if file else None for file in files))
    return grpc.secure_channel(address.netloc, credentials, options=CHANNEL_OPTIONS)


async def _end(call: grpc.Future) -> Any:
    """Wait for a call in the running loop, and cancel it when the waiting is cancelled."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def wake(_: grpc.Future) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended before the call it cancelled
            loop.call_soon_threadsafe(ended.set)

    call.add_done_callback(wake)
    try:
        await ended.wait()
    except asyncio.CancelledError:
        call.cancel()
        raise
    return call.result()


def _metadata(address: Address) -> tuple[tuple[str, str], ...]:
    """Return what a question of the caller's carries: the key, and the caller's span."""
    return *_presented(address), *carried().items()


def _presented(address: Address) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {address.key}"),) if address.key else ()


def _names(statistics: service_pb2.ModelStatisticsResponse) -> tuple[str, ...]:
    return current(model.name for model in statistics.model_stats)


def _model(name: str, config: model_config_pb2.ModelConfig, probe: service_pb2.ModelInferResponse) -> ModelFacts:
    members = config.parameters["members"].string_value if "members" in config.parameters else ""
    extra = OPTIONAL & {output.name for output in config.output}
    return ModelFacts(read_labels(_outputs(probe)), read_members(members), max(config.max_batch_size, 1), extra, name)


def _infer_request(texts: Sequence[bytes], options: Options, model: ModelFacts) -> service_pb2.ModelInferRequest:
    request = _request(model.name, texts, options)
    for name in outputs(options, model):
        request.outputs.add(name=name)
    return request


def _request(name: str, texts: Sequence[bytes], options: Options) -> service_pb2.ModelInferRequest:
    tensors = inputs(texts, options)
    request = service_pb2.ModelInferRequest(model_name=name, raw_input_contents=tensors.values())
    for tensor in tensors:
        request.inputs.add(name=tensor, datatype="BYTES", shape=[len(texts), 1])
    return request


def _probe_request(name: str) -> service_pb2.ModelInferRequest:
    request = _request(name, [PROBE_TEXT], Options())
    request.outputs.add(name=PROBABILITIES).parameters["classification"].int64_param = ALL_CLASSES
    return request


def _outputs(response: service_pb2.ModelInferResponse) -> dict[str, Tensor]:
    if len(response.outputs) != len(response.raw_output_contents):
        raise BadResponse("the answer holds tensors that are not binary: is the server a Triton?")
    return {
        output.name: Tensor(tuple(output.shape), data)
        for output, data in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def _versions(response: service_pb2.ModelInferResponse) -> list[str]:
    parameters = response.parameters
    written = parameters[VERSIONS].string_param if VERSIONS in parameters else None
    return read_versions(response.model_version, written)


def _error(error: grpc.RpcError, address: Address) -> NewsdeskError:
    trailers = dict(error.trailing_metadata() or ())
    return error_of(error.code().name, error.details() or "no details", address.url, trailers.get("retry-after"))

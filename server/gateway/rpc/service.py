"""The methods of the Open Inference Protocol: who may call each, and how it is answered.

What Triton had better not be told over a network is refused, as the HTTP side has no route for it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from tritonclient.grpc import service_pb2

from newsdesk.server.gateway import passage, splitting, structure
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.models import Model, Models, of
from newsdesk.server.gateway.problems import Malformed, Slow, Unavailable, Unimplemented, status_of
from newsdesk.server.gateway.rpc import messages
from newsdesk.server.gateway.rpc.calls import Method, RpcCall
from newsdesk.server.gateway.rpc.stream import answer_stream
from newsdesk.server.gateway.settings import Launch
from newsdesk.server.gateway.upstream import RpcReply

_MANAGED = ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload")
_INTERNAL = (
    *(f"{kind}SharedMemory{what}" for kind in ("System", "Cuda") for what in ("Status", "Register", "Unregister")),
    "TraceSetting",
    "LogSettings",
)


class Service:
    """The protocol's methods over the gateway's own state: one data plane under both protocols, for one event loop."""

    def __init__(self, launch: Launch, state: State, stopping: Callable[[], bool]) -> None:
        self._settings, self._stopping = launch.settings, stopping
        self._models: Models = state.models
        self._most = structure.VALUES + structure.VALUES_PER_TEXT * launch.settings.max_texts

    def methods(self) -> list[Method]:
        """Return every method that is answered, be it by a refusal."""
        about = "ModelMetadata", "ModelConfig", "ModelStatistics"
        return [
            Method("ServerLive", None, self._live),
            Method("ServerReady", None, self._ready),
            Method("ModelReady", Role.reader, self._model_ready),
            Method("ServerMetadata", Role.reader, self._server_metadata),
            *(Method(name, Role.reader, self._about(name)) for name in about),
            Method("ModelInfer", Role.reader, self._infer),
            Method("ModelStreamInfer", Role.reader, self._stream, streams=True),
            *(Method(name, Role.operator, _managed) for name in _MANAGED),
            *(Method(name, Role.reader, _internal) for name in _INTERNAL),
        ]

    async def _live(self, call: RpcCall) -> bytes:
        return service_pb2.ServerLiveResponse(live=True).SerializeToString()

    async def _ready(self, call: RpcCall) -> bytes:
        try:
            self._models.check_ready()
        except Unavailable:
            return service_pb2.ServerReadyResponse(ready=False).SerializeToString()
        return service_pb2.ServerReadyResponse(ready=True).SerializeToString()

    async def _model_ready(self, call: RpcCall) -> bytes:
        """Triton's word, and a real answer within the last seconds."""
        asked = messages.parse(service_pb2.ModelReadyRequest, await self._message(call))
        _check_names(asked.name, asked.version)
        model = of(call.connection, asked.name)
        if not model.plane.ready:
            return service_pb2.ModelReadyResponse(ready=False).SerializeToString()
        return await self._pass("ModelReady", asked, model)

    async def _server_metadata(self, call: RpcCall) -> bytes:
        return await self._pass("ServerMetadata", service_pb2.ServerMetadataRequest(), self._models.any)

    def _about(self, name: str) -> Callable[[RpcCall], Awaitable[bytes]]:
        kind = getattr(service_pb2, f"{name}Request")

        async def about(call: RpcCall) -> bytes:
            asked = messages.parse(kind, await self._message(call))
            if asked.name or name != "ModelStatistics":  # which is of all models, without a name
                _check_names(asked.name, asked.version)
            return await self._pass(name, asked, of(call.connection, asked.name) if asked.name else self._models.any)

        return about

    async def _infer(self, call: RpcCall) -> bytes:
        raw = await self._message(call)
        message = messages.parse(service_pb2.ModelInferRequest, raw)
        _check_names(message.model_name, message.model_version)
        of(call.connection, message.model_name)
        return await self._answer(message, call.context.time_remaining())

    async def _stream(self, call: RpcCall) -> bytes:
        await answer_stream(call, self._answer, self._stopping)
        return b""

    async def _answer(self, message: service_pb2.ModelInferRequest, seconds: float | None) -> bytes:
        """Return Triton's answer, within the time that the caller's own deadline leaves."""
        name, version, size = message.model_name, message.model_version, message.ByteSize()
        _check_names(name, version)
        model = self._models.of(name)
        request, binary = messages.read(message, self._most)
        await passage.check_outputs(model, version, request)
        once = self._models.upstream.once("ModelInfer", _encoded(message))
        reply = await splitting.infer(model, request, binary, version, size, once, seconds)
        return _encoded(reply) if isinstance(reply, service_pb2.ModelInferResponse) else _body(reply)

    async def _pass(self, method: str, message: Any, model: Model) -> bytes:
        once = self._models.upstream.once(method, _encoded(message))
        return _body(await model.triton.ask_until_answered(once))

    async def _message(self, call: RpcCall) -> bytes:
        """Return the call's message, read only now: nobody without a key can have a large one received."""
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                raw = await call.context.read()
        except TimeoutError:
            raise Slow(f"No message came for {self._settings.request_timeout:g} s.") from None
        if raw is grpc.aio.EOF:
            raise Malformed("The call holds no message.")
        return bytes(raw)


async def _managed(call: RpcCall) -> bytes:
    raise Unimplemented("Models are managed over HTTP, by operators: POST /v2/repository/models/…/load, or unload.")


async def _internal(call: RpcCall) -> bytes:
    raise Unimplemented(f"{call.method.name} is not served: shared memory, traces and logs are this machine's own.")


def _check_names(model: str, version: str) -> None:
    passage.check_name("model", model)
    if version:
        passage.check_name("version", version)


def _encoded(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString()
    return encoded


def _body(reply: RpcReply) -> bytes:
    """Return an answer. Raises HTTPException, with the words of Triton's error."""
    if reply.good:
        return reply.body
    status, reason = passage.judge(status_of(reply.code), reply.reason)
    raise HTTPException(status, reason)

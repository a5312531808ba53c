"""The gRPC server: every call through the gate and the observing layer, each error with its code."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from newsdesk.clients import NewsdeskError
from newsdesk.clients.triton_grpc import PREFIX
from newsdesk.server.gateway import admission
from newsdesk.server.gateway.certificates import Certificates
from newsdesk.server.gateway.connections import HEAD_BYTES
from newsdesk.server.gateway.observed import Observed
from newsdesk.server.gateway.origins import Origins
from newsdesk.server.gateway.problems import code_of, explained
from newsdesk.server.gateway.rpc.calls import CALL, Concurrency, Method, RpcCall
from newsdesk.server.gateway.rpc.service import Service
from newsdesk.server.gateway.settings import GatewaySettingsError, Launch
from newsdesk.server.gateway.telemetry import Telemetry
from newsdesk.server.machine import addresses
from newsdesk.server.runtime.errors import ServerError

if TYPE_CHECKING:
    from newsdesk.server.gateway.tracing import Tracing

DRAIN_SECONDS = 8.0
_MIB = 2**20
_IDLE_MS = 300_000
_CALLS_EACH = 1024
"""Calls of one connection at once."""
_TICK_SECONDS, _CLOSE_SECONDS = 0.1, 1.0


class Rpc:
    """The gRPC server of an application, whose state it shares, for the event loop that it is made in."""

    def __init__(
        self,
        launch: Launch,
        app: Any,
        telemetry: Telemetry,
        tracing: "Tracing | None",
        certificates: Certificates | None,
        stopping: Callable[[], bool],
    ) -> None:
        settings = launch.settings
        self._app, self._settings, self._stopping = app, settings, stopping
        self._calls, self._origins = Concurrency(settings.max_connections), Origins(_nobody, settings, app.state)
        self._observed = Observed(self._perform, settings, telemetry, tracing)
        self._certificates = certificates
        service = Service(launch, app.state, stopping)
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", settings.max_body_mib * _MIB),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", HEAD_BYTES),
                ("grpc.absolute_max_metadata_size", HEAD_BYTES),
                ("grpc.max_concurrent_streams", _CALLS_EACH),
                ("grpc.max_connection_idle_ms", _IDLE_MS),
                ("grpc.so_reuseport", 0),  # another's port is taken, and not shared
            )
        )
        self._server.add_generic_rpc_handlers((_Handlers(service.methods(), self._answer_one, self._answer_many),))

    async def start(self) -> None:
        """Listen.

        Raises:
            GatewaySettingsError: the port is taken.
        """
        place = f"{addresses.bracketed(self._settings.host)}:{self._settings.grpc_port}"
        try:
            if self._certificates:
                self._server.add_secure_port(place, self._certificates.credentials())
            else:
                self._server.add_insecure_port(place)
        except RuntimeError as error:
            raise GatewaySettingsError(
                f"--gateway-grpc-port (NEWSDESK_GATEWAY_GRPC_PORT) is {self._settings.grpc_port}: nobody can listen on "
                f"{place}. Choose another."
            ) from error
        await self._server.start()

    async def watch(self) -> None:
        """Take no new call once the gateway is to stop, as its HTTP side then does."""
        while not self._stopping():
            await asyncio.sleep(_TICK_SECONDS)
        await self._server.stop(DRAIN_SECONDS)

    async def close(self) -> None:
        """End, after `watch` has let the calls that were under way have their time."""
        await self._server.stop(_CLOSE_SECONDS)

    async def _answer_one(self, method: Method, _: Any, context: grpc.aio.ServicerContext) -> bytes:
        return await self._answer(RpcCall(method, context, self._app.state))

    async def _answer_many(self, method: Method, _: Any, context: grpc.aio.ServicerContext) -> None:
        await self._answer(RpcCall(method, context, self._app.state))

    async def _answer(self, call: RpcCall) -> bytes:
        await self._observed(call.scope(self._app), _nothing, _kept)
        if call.problem is not None:
            code = grpc.StatusCode[code_of(call.problem.status_code)]
            await call.context.abort(code, call.problem.detail, call.trailers())
        call.context.set_trailing_metadata(call.trailers())
        return call.response

    async def _perform(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Perform the call of a scope, as an ASGI application whose answer is a status alone."""
        call: RpcCall = scope[CALL]
        try:
            with self._calls.counted(call.address):
                await self._admit(call)
                call.response = await call.method.run(call)
        except Exception as error:
            call.problem, cause = explained(error)
            if cause:
                call.connection.state.cause = cause
            await send(_status(call.problem.status_code))
            if not isinstance(error, (HTTPException, NewsdeskError, ServerError)):
                raise  # for the log
        else:
            await send(_status(200))

    async def _admit(self, call: RpcCall) -> None:
        """Raises Problem for who may not call."""
        if call.method.least is None:
            return
        state, connection = self._app.state, call.connection
        if problem := self._origins.refusal(Headers(scope=connection.scope), "POST"):
            state.refusals.note(connection, problem)
            raise problem
        caller = await state.gate.admit(connection, call.method.least)
        call.caller = caller.id
        admission.caller.set(caller.id)


class _Handlers(grpc.GenericRpcHandler):
    """Every method takes a stream of messages, of which most read one, so that a call is admitted before it is read."""

    def __init__(self, methods: list[Method], single: Callable[..., Any], many: Callable[..., Any]) -> None:
        self._handlers = {
            PREFIX + method.name: grpc.stream_stream_rpc_method_handler(partial(many, method))
            if method.streams
            else grpc.stream_unary_rpc_method_handler(partial(single, method))
            for method in methods
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(handler_call_details.method)


def _status(status: int) -> Message:
    return {"type": "http.response.start", "status": status, "headers": []}


async def _nothing() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _kept(_: Message) -> None:
    """The call itself holds its answer."""


async def _nobody(scope: Scope, receive: Receive, send: Send) -> None:
    """No application is behind the origins' rules here."""

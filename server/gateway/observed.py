"""The layer around the application: request ids, security headers, size and time limits of bodies, logs, metrics."""

import asyncio
import logging
import random
import re
import time
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from newsdesk.server.gateway import logs
from newsdesk.server.gateway.logs import log
from newsdesk.server.gateway.problems import Slow, TooLarge
from newsdesk.server.gateway.settings import GatewaySettings
from newsdesk.server.gateway.telemetry import Telemetry

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from newsdesk.server.gateway.tracing import Tracing

FILE_ROUTE, MODEL_FILE_ROUTE = "/v1/classify/file", "/v1/models/{model}/classify/file"
JOBS_ROUTE = "/v1/jobs"
_FILE = re.compile(r"/v1/((models/[^/]+/)?classify/file|jobs)")
_TIMED = frozenset(
    {
        "/v1/classify",
        "/v1/models/{model}/classify",
        "/v2/models/{model}/infer",
        "/v2/models/{model}/versions/{version}/infer",
        "/inference.GRPCInferenceService/ModelInfer",
    }
)
_QUIET = frozenset(
    {
        "/health/live",
        "/health/ready",
        "/v2/health/live",
        "/v2/health/ready",
        "/metrics",
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
    }
)
_NOTED = "caller", "address", "key", "model", "texts", "refused", "cause"
"""The fields that the routes note of a request for the log."""
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}")
_MIB = 2**20
_LEAST_RATE = 16 * 1024
"""Bytes of a body a second that must come, beyond what the time limit lets come late."""
GONE = 499
"""Status of a request whose caller is gone."""
# What is left of the body is not read: the connection cannot go on.
_CLOSE = {"Connection": "close"}
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


class Observed:
    """The application within the layer."""

    def __init__(
        self, app: ASGIApp, settings: GatewaySettings, telemetry: Telemetry, tracing: "Tracing | None" = None
    ) -> None:
        self._app, self._settings, self._telemetry, self._tracing = app, settings, telemetry, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it, and log it at its end."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif self._tracing and scope["path"] not in _QUIET:
            with self._tracing.request(Headers(scope=scope)) as span:
                await self._serve(scope, receive, send, span)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, span: "Span | None" = None) -> None:
        began = time.perf_counter()
        sent_id = Headers(scope=scope).get("x-request-id", "")
        request_id = sent_id if _REQUEST_ID.fullmatch(sent_id) else f"{random.getrandbits(64):016x}"
        state = scope["state"] = {**scope.get("state", {}), "request_id": request_id}
        logs.request_id.set(request_id)
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                headers = message["headers"]
                named = {name for name, _ in headers}
                own = [pair for pair in _HEADERS if pair[0] not in named]
                message["headers"] = [*headers, *own, (b"x-request-id", request_id.encode())]
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        error: BaseException | None = None
        try:
            await self._app(scope, self._limited(scope, receive), sending)
        except asyncio.CancelledError as cancelled:
            error, status = cancelled, status or GONE
            raise
        except Exception as failure:  # the application has answered it; its reason is for the log
            error = failure
            if not status and scope["type"] == "http":
                raise
        finally:
            self._finish(scope, state, status or GONE, time.perf_counter() - began, error, span)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Return `receive` that raises TooLarge and Slow."""
        if scope["type"] != "http":
            return receive
        settings = self._settings
        mib = settings.max_file_mib if _FILE.fullmatch(scope["path"]) else settings.max_body_mib
        announced = Headers(scope=scope).get("content-length", "0")
        too_large = TooLarge(f"The body is larger than {mib} MiB, the most that is taken here.", _CLOSE)
        size, waited, whole = 0, 0.0, False

        async def receiving() -> Message:
            nonlocal size, waited, whole
            if whole:
                return await receive()
            if announced.isdigit() and int(announced) > mib * _MIB:
                raise too_large
            began, left = time.monotonic(), settings.request_timeout + size / _LEAST_RATE - waited
            try:
                async with asyncio.timeout(min(left, settings.request_timeout)):
                    message = await receive()
            except TimeoutError:
                if left < settings.request_timeout:
                    raise Slow(f"The body comes too slowly: {size} bytes in {waited:.0f} s.", _CLOSE) from None
                raise Slow(f"Nothing more of the body came for {settings.request_timeout:g} s.", _CLOSE) from None
            waited += time.monotonic() - began
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                whole = not message.get("more_body", False)
                if size > mib * _MIB:
                    raise too_large
            return message

        return receiving

    def _finish(
        self,
        scope: Scope,
        state: dict[str, Any],
        status: int,
        seconds: float,
        error: BaseException | None,
        span: "Span | None",
    ) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._telemetry.request(
            route, status, seconds, timed=route in _TIMED and status == 200, model=state.get("model", "")
        )
        if route in _QUIET and status < 500:
            return
        fields: dict[str, Any] = {
            "request_id": state["request_id"],
            "method": scope.get("method", "WEBSOCKET"),
            "route": route,
            "status": status,
            "ms": round(seconds * 1e3, 2),
            **{name: state[name] for name in _NOTED if name in state},
        }
        if self._tracing and span:
            fields["trace_id"] = self._tracing.finish(span, fields["method"], route, status, state["request_id"])
        failed = isinstance(error, Exception)
        log("request", logging.ERROR if failed else logging.INFO, error if failed else None, **fields)

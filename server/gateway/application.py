"""The application: what lives as long as the gateway, and the routes over it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from newsdesk.clients import NewsdeskError
from newsdesk.server.gateway.auth import Authenticator
from newsdesk.server.gateway.certificates import Certificates
from newsdesk.server.gateway.disconnects import Disconnects
from newsdesk.server.gateway.feedback import Feedback
from newsdesk.server.gateway.jobs.runner import Runner
from newsdesk.server.gateway.jobs.store import Store
from newsdesk.server.gateway.logs import AuditLog
from newsdesk.server.gateway.models import Models
from newsdesk.server.gateway.observed import GONE, Observed
from newsdesk.server.gateway.origins import Origins
from newsdesk.server.gateway.problems import on_error
from newsdesk.server.gateway.rates import Rates
from newsdesk.server.gateway.refusals import Refusals
from newsdesk.server.gateway.routes import (
    about,
    classify,
    feedback,
    files,
    graphql,
    health,
    jobs,
    live,
    management,
    oip,
    page,
    stream,
)
from newsdesk.server.gateway.routes.bodies import invalid
from newsdesk.server.gateway.routes.direct import Direct
from newsdesk.server.gateway.routes.feedback import FeedbackRequest
from newsdesk.server.gateway.rpc.server import Rpc
from newsdesk.server.gateway.schemas import ClassifyRequest, ProblemDetails
from newsdesk.server.gateway.settings import Launch
from newsdesk.server.gateway.telemetry import Telemetry
from newsdesk.server.gateway.tokens import BearerTokens
from newsdesk.server.gateway.triton import open_session
from newsdesk.server.machine import traces
from newsdesk.server.runtime.errors import ServerError

if TYPE_CHECKING:
    from newsdesk.server.gateway.tracing import Tracing

_ROUTERS = (
    classify.direct.router,
    feedback.router,
    files.router,
    jobs.router,
    stream.router,
    live.router,
    graphql.router,
    about.router,
    health.router,
    oip.health,
    oip.direct.router,
    oip.router,
    management.models,
    management.keys,
    page.router,
)
_PREFLIGHT_SECONDS = 600


def create(launch: Launch, stopping: Callable[[], bool], certificates: Certificates | None = None) -> Observed:
    """Return the ASGI application, beside which the same is served over gRPC while it lives.

    Args:
        launch: what the process is started with
        stopping: says whether streams without an end of their own must end
        certificates: of both ports; None where they are not encrypted

    Raises:
        GatewaySettingsError: a setting cannot be used.
        TracesError: the address for traces cannot be used.
    """
    telemetry, rates, tracing = Telemetry(), Rates(launch.settings), _tracing()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with open_session() as session:
            _fill(app.state, launch, session, telemetry, rates, tracing)
            app.state.stopping = stopping
            rpc = Rpc(launch, app, telemetry, tracing, certificates, stopping) if launch.settings.grpc_port else None
            async with _running(app.state, rpc, certificates, tracing):
                yield

    app = _routed(life)
    answering: ASGIApp = Disconnects(Direct(app, (classify.direct, oip.direct)))
    if launch.settings.cors_origin:
        answering = CORSMiddleware(
            answering,
            allow_origins=launch.settings.cors_origin,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
            expose_headers=["Retry-After", "X-Request-ID"],
            max_age=_PREFLIGHT_SECONDS,
        )
    return Observed(Origins(answering, launch.settings, app.state), launch.settings, telemetry, tracing)


def _fill(
    state: State,
    launch: Launch,
    session: ClientSession,
    telemetry: Telemetry,
    rates: Rates,
    tracing: "Tracing | None",
) -> None:
    """Put what the routes share on the application's state."""
    state.settings, state.launch = launch.settings, launch
    state.telemetry, state.audit = telemetry, AuditLog(launch.audit_log)
    state.refusals = Refusals(state.audit)
    state.feedback = Feedback(launch.settings.feedback) if launch.settings.feedback else None
    state.models = Models(launch, telemetry, session, tracing)
    state.gate = Authenticator(launch.settings, BearerTokens(launch.settings, session), rates, state.refusals)
    state.jobs = Store(launch.state / "jobs", launch.settings)
    state.runner = Runner(state.jobs, state.models, state.gate)


@asynccontextmanager
async def _running(
    state: State, rpc: Rpc | None, certificates: Certificates | None, tracing: "Tracing | None"
) -> AsyncIterator[None]:
    """Run what works beside the requests, and close what was opened for them."""
    running = asyncio.create_task(state.runner.run())
    watching = [running, *state.models.watch()]
    if rpc:
        await rpc.start()
        watching.append(asyncio.create_task(rpc.watch()))
    if certificates:
        watching.append(asyncio.create_task(certificates.watch()))
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
        await asyncio.wait([running])  # it has files open
        state.jobs.close()
        if rpc:
            await rpc.close()
        await state.models.close()
        if tracing:
            await asyncio.to_thread(tracing.close)


def _routed(life: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> FastAPI:
    """Return FastAPI's application, with the routes, what becomes of errors, and the document of both."""
    app = FastAPI(
        title="newsdesk",
        version=version("newsdesk"),
        summary="Texts to labels.",
        lifespan=life,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # what follows a redirection shows its key to whoever listens on the way
    )
    for router in _ROUTERS:
        app.include_router(router)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


def _tracing() -> "Tracing | None":
    url = traces.endpoint()
    if not url:
        return None
    from newsdesk.server.gateway.tracing import Tracing

    return Tracing(url)


def _document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with the bodies that FastAPI does not read itself, and the ways to authenticate."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        for model in ClassifyRequest, FeedbackRequest, ProblemDetails:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a JWT."},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        document["security"] = [{"bearer": []}, {"key": []}, {}]
        app.openapi_schema = document
    return app.openapi_schema


async def _on_invalid(request: Request, error: Exception) -> Response | None:
    assert isinstance(error, RequestValidationError)
    return await on_error(request, invalid(error.errors()))


async def _on_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=GONE)


_HANDLERS: dict[Any, Any] = {
    RequestValidationError: _on_invalid,
    ClientDisconnect: _on_disconnect,
    **dict.fromkeys((HTTPException, NewsdeskError, ServerError, Exception), on_error),
}

"""The routes of single inferences, answered without FastAPI's machinery, which takes longer than all else that they do.

FastAPI is told of each as well: it describes them in the OpenAPI document, and answers other methods than POST.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from re import Pattern
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from newsdesk.clients import NewsdeskError
from newsdesk.server.gateway.auth import only
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.observed import GONE
from newsdesk.server.gateway.problems import respond_to
from newsdesk.server.runtime.errors import ServerError

_EXPLAINED = HTTPException, NewsdeskError, ServerError
Endpoint = Callable[[Request, str], Awaitable[Response]]


@dataclass(frozen=True)
class DirectRoute:
    """A route for POST: its path as FastAPI writes it, the role that it needs, and what answers it."""

    path: str
    least: Role
    endpoint: Endpoint
    pattern: Pattern[str]


class DirectRoutes:
    """Routes that are declared once, to FastAPI's router and to `Direct`."""

    def __init__(self, router: APIRouter) -> None:
        self.router = router
        self.routes: list[DirectRoute] = []

    def post(self, path: str, least: Role, **documented: Any) -> Callable[[Endpoint], Endpoint]:
        """Return what declares an endpoint, which takes the request and `model`, of the path or the query, "" without.

        Args:
            path: as FastAPI takes it
            least: the role that it needs
            documented: what else FastAPI's router takes for the OpenAPI document
        """
        pattern, _, _ = compile_path(path)

        def declare(endpoint: Endpoint) -> Endpoint:
            self.router.post(path, dependencies=only(least), **documented)(endpoint)
            self.routes.append(DirectRoute(path, least, endpoint, pattern))
            return endpoint

        return declare


class Direct:
    """The application behind its direct routes. A request for any other goes to it."""

    def __init__(self, app: FastAPI, routes: Sequence[DirectRoutes]) -> None:
        self._app = app
        self._routes = [route for declared in routes for route in declared.routes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http" or scope["method"] != "POST" or (matched := self._match(scope["path"])) is None:
            await self._app(scope, receive, send)
            return
        route, names = matched
        scope.update(app=self._app, route=route, path_params=names)
        request = Request(scope, receive)
        unexpected: Exception | None = None
        try:
            response = await _answer(request, route, names)
        except ClientDisconnect:
            response = Response(status_code=GONE)
        except Exception as error:
            response = respond_to(request, error)
            unexpected = None if isinstance(error, _EXPLAINED) else error
        await response(scope, receive, send)
        if unexpected:
            raise unexpected  # for the log

    def _match(self, path: str) -> tuple[DirectRoute, Mapping[str, str]] | None:
        for route in self._routes:
            if match := route.pattern.match(path):
                return route, match.groupdict()
        return None


async def _answer(request: Request, route: DirectRoute, names: Mapping[str, str]) -> Response:
    await request.app.state.gate.admit(request, route.least)
    model = names.get("model") or (request.query_params.get("model", "") if request.scope["query_string"] else "")
    return await route.endpoint(request, model)

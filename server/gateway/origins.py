"""A browser brings any page's requests here, from inside: those under a wrong name, or of pages elsewhere, are refused.

A page whose name is made to point to this machine (DNS rebinding) would be of the gateway's own origin, but its
requests carry that name in Host. Other pages' requests carry their Origin, or Sec-Fetch-Site. Programs send neither.
"""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, State
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from newsdesk.server.gateway.problems import Forbidden, Misdirected, Problem, respond
from newsdesk.server.gateway.settings import GatewaySettings

_READS = ("GET", "HEAD", "OPTIONS")
_OWN = ("same-origin", "none")


class Origins:
    """The application behind the rules on hosts and origins."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings, state: State) -> None:
        """`state` is the application's."""
        self._app, self._state, self._checks = app, state, settings.checks_hosts
        self._names = {"localhost", settings.host.lower(), *(name.lower() for name in settings.allowed_host)}
        self._listed = settings.cors_origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it, or turn it away."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        problem = self.refusal(Headers(scope=scope), scope.get("method", ""))
        if problem is None:
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        self._state.refusals.note(connection, problem)
        response = respond(problem, connection.state.request_id)
        response.headers["Connection"] = "close"  # its body is not read
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(response)
        else:
            await response(scope, receive, send)

    def refusal(self, headers: Headers, method: str) -> Problem | None:
        """Return why a request with these headers is turned away, None where it is not."""
        host = headers.get("host", "")
        if self._checks and host and not self._is_here(host):
            return Misdirected(
                f"The request is for the host {host!r:.80}, expected localhost or an address; --allowed-host adds "
                "names."
            )
        if method in _READS:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin in self._listed or site in _OWN or (origin is None and site is None):
            return None
        if origin is not None and urlsplit(origin).netloc == host:
            return None
        pages = f"of {origin!r:.80}" if origin else "of other sites"
        return Forbidden(f"Pages {pages} may not call; --cors-origin lists those that may.")

    def _is_here(self, host: str) -> bool:
        """Whether a Host is one of the names, or an address: no name can be made to be that."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
            if name in self._names:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

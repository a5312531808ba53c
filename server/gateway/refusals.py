"""Note who was turned away: for the log, and for the audit log, whose disk nobody who is turned away can fill."""

import re
import time

from starlette.requests import HTTPConnection

from newsdesk.server.gateway.logs import AuditLog
from newsdesk.server.gateway.problems import Problem

_KEY_ID = re.compile(r"nd_([0-9a-f]{12})_")
_MOST, _EACH_SECONDS = 30, 2.0
"""Entries that the audit log takes at once, and how long until it takes one more."""


class Refusals:
    """The notes of who was turned away, for one event loop."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._left, self._since, self._unwritten = float(_MOST), time.monotonic(), 0

    def note(self, connection: HTTPConnection, problem: Problem) -> None:
        """Write down the address, and the key's or the caller's id where there is one; never a key or a token.

        The request's own line of the log has them, too.
        """
        state, about = connection.state, _who(connection)
        for name, value in {**about, "cause": problem.detail}.items():
            setattr(state, name, value)
        now = time.monotonic()
        self._left = min(self._left + (now - self._since) / _EACH_SECONDS, _MOST)
        self._since = now
        if self._left < 1:
            self._unwritten += 1
            return
        self._left -= 1
        missing = {"unwritten_before": self._unwritten} if self._unwritten else {}
        self._unwritten = 0
        route = getattr(connection.scope.get("route"), "path", "none")
        method = connection.scope.get("method", "WEBSOCKET")
        entry = {"request_id": state.request_id, "action": "refused", "method": method, "route": route}
        self._audit.write(**entry, **about, outcome=problem.detail, status=problem.status, **missing)


def _who(connection: HTTPConnection) -> dict[str, str]:
    """Return the address, and the caller, where it was told who that is; else the id of the key that was shown."""
    about = {"address": connection.client.host if connection.client else ""}
    if caller := getattr(connection.state, "caller", ""):
        return {**about, "caller": caller}
    shown = connection.headers.get("x-api-key") or connection.headers.get("authorization", "")
    match = _KEY_ID.search(shown)
    return {**about, "key": match[1]} if match else about

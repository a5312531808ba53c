"""The one table from an error to a status and a gRPC code, and RFC 9457 problem details, as which errors leave."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from newsdesk.clients import (
    BadResponse,
    DeadlineExceeded,
    NewsdeskError,
    RequestRefused,
    ServerFailed,
    ServerUnavailable,
)
from newsdesk.server.runtime.errors import ServerError

MEDIA_TYPE = "application/problem+json"
_COME_BACK = "1"
_MOST_DETAIL = 2000
_QUEUE_FULL = "maximum queue size"


class Problem(HTTPException):
    """An error with its status; the kinds are below. `detail` says what was given, what was expected, what to do."""

    status = 500
    kind = "internal-error"

    def __init__(self, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        # What it repeats of a request is bounded, and may hold half a character, which JSON cannot carry.
        readable = detail[:_MOST_DETAIL].encode(errors="replace").decode()
        super().__init__(self.status, readable, dict(headers or {}))
        self.more = more


class Malformed(Problem):
    """A body that is not what its content type says."""

    status, kind = 400, "malformed"


class Unauthenticated(Problem):
    """No key or token, or one that is not (or no longer) valid."""

    status, kind = 401, "unauthenticated"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, {"WWW-Authenticate": 'Bearer realm="newsdesk"'})


class Forbidden(Problem):
    """A caller who may not do this."""

    status, kind = 403, "forbidden"


class NotFound(Problem):
    """A name that nothing has."""

    status, kind = 404, "not-found"


class Conflict(Problem):
    """The request cannot be done as things stand."""

    status, kind = 409, "conflict"


class Slow(Problem):
    """A body that did not arrive in time."""

    status, kind = 408, "slow-request"


class TooLarge(Problem):
    """More than is taken at once."""

    status, kind = 413, "too-large"


class Unsupported(Problem):
    """A body of a type that is not taken."""

    status, kind = 415, "unsupported-media-type"


class Misdirected(Problem):
    """A request for another host."""

    status, kind = 421, "misdirected"


class Invalid(Problem):
    """A well-formed body that does not hold what is expected."""

    status, kind = 422, "invalid"


class Poisonous(Problem):
    """A request that ended the model's process each time that it was tried, and is not tried again for a while."""

    status, kind = 422, "ended-the-model"


class TooMany(Problem):
    """More requests than the caller may send, or more texts than the queue takes."""

    status, kind = 429, "too-many-requests"

    def __init__(self, detail: str, seconds: int = 1) -> None:
        super().__init__(detail, {"Retry-After": str(max(seconds, 1))})


class Full(Problem):
    """No room is left for what is to be kept."""

    status, kind = 507, "insufficient-storage"


class Unimplemented(Problem):
    """A method of the protocol that is not served here."""

    status, kind = 501, "unimplemented"


class Unavailable(Problem):
    """A model, or a part of the gateway, that does not answer now."""

    status, kind = 503, "unavailable"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, {"Retry-After": _COME_BACK})


class Late(Problem):
    """An answer that did not come in time."""

    status, kind = 504, "deadline-exceeded"


class Failed(Problem):
    """The model took the request and failed on it."""

    status, kind = 500, "model-failed"


_TABLE: tuple[tuple[type[NewsdeskError], type[Problem], str], ...] = (
    (DeadlineExceeded, Late, "The model has not answered in the time that a request may take: send less at once."),
    (ServerUnavailable, Unavailable, "The model does not answer now: it is being started or healed. Send it again."),
    (RequestRefused, Unavailable, "The model is not loaded, or another one is. Send it again in a moment."),
    (BadResponse, Failed, "The model's answer is not of its contract. The server's log has more."),
    (ServerFailed, Failed, "The model failed on the request. The server's log has more."),
)


# HTTP status and gRPC code; of several, the first counts.
_CODES: tuple[tuple[int, str], ...] = (
    (200, "OK"),
    (400, "INVALID_ARGUMENT"),
    (413, "INVALID_ARGUMENT"),
    (415, "INVALID_ARGUMENT"),
    (422, "INVALID_ARGUMENT"),
    (401, "UNAUTHENTICATED"),
    (403, "PERMISSION_DENIED"),
    (421, "PERMISSION_DENIED"),
    (404, "NOT_FOUND"),
    (409, "FAILED_PRECONDITION"),
    (409, "ALREADY_EXISTS"),
    (409, "ABORTED"),
    (429, "RESOURCE_EXHAUSTED"),
    (499, "CANCELLED"),
    (500, "INTERNAL"),
    (500, "UNKNOWN"),
    (500, "DATA_LOSS"),
    (400, "OUT_OF_RANGE"),
    (501, "UNIMPLEMENTED"),
    (503, "UNAVAILABLE"),
    (504, "DEADLINE_EXCEEDED"),
    (408, "DEADLINE_EXCEEDED"),
    (507, "RESOURCE_EXHAUSTED"),
)
_TO_CODE = {status: code for status, code in reversed(_CODES)}
_TO_STATUS = {code: status for status, code in reversed(_CODES)}


def code_of(status: int) -> str:
    """Return the name of the gRPC code for an HTTP status."""
    return _TO_CODE.get(status, "INTERNAL")


def status_of(code: str) -> int:
    """Return the HTTP status for the name of a gRPC code."""
    return _TO_STATUS.get(code, Problem.status)


def explained(error: Exception) -> tuple[HTTPException, str]:
    """Return what a caller is told of an error, whatever it is, and what the log is, where that is more."""
    if isinstance(error, HTTPException):
        return error, ""
    if isinstance(error, NewsdeskError):
        return problem_of(error), f"{type(error).__name__}: {error}"
    if isinstance(error, ServerError):
        return Unavailable("The gateway cannot answer this now. Its log says why."), str(error)
    return Problem("The gateway failed on the request. Its log says why."), ""


def problem_of(error: NewsdeskError) -> Problem:
    """Return what a caller is told of an error of the SDK; its own words, with addresses, are for the log."""
    if _QUEUE_FULL in str(error).lower():
        return TooMany("The model's queue is full: send it again in a moment.")
    kind, detail = next((kind, detail) for exception, kind, detail in _TABLE if isinstance(error, exception))
    return kind(detail)


def describe(problem: HTTPException, request_id: str) -> dict[str, Any]:
    """Return the members of the problem details document, and `error`, where clients of the OIP look for the reason."""
    kind = problem.kind if isinstance(problem, Problem) else f"http-{problem.status_code}"
    return {
        "type": f"urn:newsdesk:problem:{kind}",
        "title": HTTPStatus(problem.status_code).phrase,
        "status": problem.status_code,
        "detail": problem.detail,
        "request_id": request_id,
        "error": problem.detail,
        **(problem.more if isinstance(problem, Problem) else {}),
    }


def respond(problem: HTTPException, request_id: str) -> Response:
    """Return the response that tells of a problem."""
    body = msgspec.json.encode(describe(problem, request_id))
    return Response(body, problem.status_code, problem.headers, MEDIA_TYPE)


def respond_to(connection: HTTPConnection, error: Exception) -> Response:
    """Return the response that tells of an error, whatever it is, and note for the log what is not for the caller."""
    problem, cause = explained(error)
    if cause:
        connection.state.cause = cause
    return respond(problem, connection.state.request_id)


async def on_error(connection: HTTPConnection, error: Exception) -> Response | None:
    """Answer an error: a Problem, the router's own 404 and 405, or another. None where it is sent, a WebSocket's."""
    response = respond_to(connection, error)
    if not isinstance(connection, WebSocket):
        return response
    await connection.send_denial_response(response)
    return None

"""The errors of a call. A message says what was given, what was expected and what to do."""

import re


class NewsdeskError(Exception):
    """Every error that a call to the service can end with."""


class ServerUnavailable(NewsdeskError):
    """Nothing answers at the address, or the server cannot answer now. Retried; raised when the retries are used up.

    Attributes:
        retry_after: seconds that the server asks to wait, 0 where it does not say
        elsewhere: whether another server of the client's may answer at once
    """

    retry_after: float = 0.0
    elsewhere: bool = False


class Interrupted(ServerUnavailable):
    """The request was in flight when the server or the model's process ended, and may be why it did. Retried.

    Attributes:
        process: Triton's name of the model's process, "" where the server itself went away
        sent: monotonic time at which the request was sent, 0 where nobody noted it
    """

    process: str = ""
    sent: float = 0.0


class TooManyRequests(ServerUnavailable):
    """The server is sound, and asks this caller to come later. Retried, not before `retry_after`."""


class DeadlineExceeded(NewsdeskError):
    """No answer within the time the caller gave."""


class RequestRefused(NewsdeskError):
    """The server refuses the request itself: an unknown model, or inputs that are not the model's."""


class AccessDenied(RequestRefused):
    """The server wants an API key or token and got none, one that is not valid, or one that may not do this."""


class ServerFailed(NewsdeskError):
    """The server took the request and failed on it."""


class BadResponse(NewsdeskError):
    """An answer that does not keep the contract of the model."""


class Incomplete(BadResponse):
    """An answer without all the outputs that were asked for."""


class TextRefused(NewsdeskError):
    """One text that is not classified: empty, not UTF-8, over the size limit.

    Raised for a text given alone. In a list it stands at the place of the text, and the others are answered.
    `index` is the position of the text in what was given, `reason` says what is wrong with it and what to do.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(index, reason)
        self.index = index
        self.reason = reason

    def __str__(self) -> str:
        return f"text {self.index} is refused: {self.reason}"


# A dead backend process is an internal error to Triton, though another instance can answer the same request.
_DEAD_PROCESS = re.compile(r"Stub process(?: '(?P<name>[^']*)')?.*not healthy|stub process has exited", re.S)
# gRPC's words for a connection that ended under a request, and for one that was never opened, whatever the reason.
_BROKE = re.compile(r"Socket closed|reset by peer|Broken pipe|Stream removed|GOAWAY|Connection (aborted|closed)", re.I)
_NOT_SENT = re.compile("failed to connect to all addresses")

# Triton's words for an output that the model had when the client asked what it has.
_OTHER_MODEL = re.compile(r"unexpected inference output")

# The one table from a protocol's status to an error: gRPC code, HTTP status, error. Anything else is ServerFailed.
_STATUSES: tuple[tuple[str | None, int, type[NewsdeskError]], ...] = (
    ("INVALID_ARGUMENT", 400, RequestRefused),
    ("UNAUTHENTICATED", 401, AccessDenied),
    ("PERMISSION_DENIED", 403, AccessDenied),
    ("NOT_FOUND", 404, RequestRefused),
    (None, 405, RequestRefused),
    (None, 408, ServerUnavailable),
    (None, 409, RequestRefused),
    (None, 413, RequestRefused),
    (None, 415, RequestRefused),
    (None, 422, RequestRefused),
    ("RESOURCE_EXHAUSTED", 429, TooManyRequests),
    ("INTERNAL", 500, ServerFailed),
    ("UNIMPLEMENTED", 501, RequestRefused),
    (None, 502, ServerUnavailable),
    ("UNAVAILABLE", 503, ServerUnavailable),
    ("DEADLINE_EXCEEDED", 504, DeadlineExceeded),
)
_BY_STATUS: dict[str | int | None, type[NewsdeskError]] = {
    status: error for grpc, http, error in _STATUSES for status in (grpc, http)
}


def error_of(status: str | int, message: str, url: str, retry_after: str | None = None) -> NewsdeskError:
    """Return the error for a status, with the server's message and what to do.

    Args:
        status: a gRPC code's name, or an HTTP status
        message: the server's
        url: that was asked
        retry_after: the header of that name, of which only seconds count
    """
    kind = _BY_STATUS.get(status, ServerFailed)
    if kind is ServerFailed and (dead := _DEAD_PROCESS.search(message)):
        return interrupted(url, message, dead["name"] or "")
    if issubclass(kind, ServerUnavailable):
        if status == "UNAVAILABLE" and _BROKE.search(message) and not _NOT_SENT.search(message):
            return interrupted(url, message)
        error = unavailable(url, message)
        if kind is TooManyRequests:
            error = TooManyRequests(f"{url} asks to come later ({status}): {message}")
        error.retry_after = float(retry_after) if retry_after and retry_after.isdecimal() else 0.0
        return error
    if kind is AccessDenied:
        advice = "Give a key that may do this with `api_key` or NEWSDESK_API_KEY; `newsdesk keys create` makes one."
        return AccessDenied(f"{url} refuses the caller ({status}): {message.rstrip('.')}. {advice}")
    if kind is DeadlineExceeded:
        return late(url)
    if kind is RequestRefused and _OTHER_MODEL.search(message):
        return BadResponse(f"{url} has changed its model ({message}). Call again, and what it has is read.")
    if kind is RequestRefused:
        return RequestRefused(f"{url} refuses the request ({status}): {message}")
    return kind(f"{url} failed on the request ({status}): {message}. The server's log has more.")


def unavailable(url: str, detail: object) -> ServerUnavailable:
    """Return the error of a server that does not answer."""
    return ServerUnavailable(_away(url, detail))


def interrupted(url: str, detail: object, process: str = "") -> Interrupted:
    """Return the error of a request whose server, or `process` of a model, ended."""
    error = Interrupted(_away(url, detail))
    error.process = process
    return error


def _away(url: str, detail: object) -> str:
    return (
        f"{url} does not answer: {str(detail).rstrip('.')}. "
        "Is `newsdesk serve` running, and is this its address? NEWSDESK_URL or `url` names another."
    )


def late(url: str) -> DeadlineExceeded:
    """Return the error of a deadline that has passed."""
    return DeadlineExceeded(f"{url} has not answered in the time given: allow more with `timeout`, or send less.")

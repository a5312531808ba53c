"""Joining traces: the W3C traceparent of the caller's own span, sent with every request of the current context."""

from contextvars import ContextVar

traceparent: ContextVar[str] = ContextVar("newsdesk_traceparent", default="")
"""Set it to "00-<trace>-<span>-01", as https://www.w3.org/TR/trace-context/ says; "" = requests carry none."""


def carried() -> dict[str, str]:
    """Return the headers, or gRPC metadata, that a request carries."""
    parent = traceparent.get()
    return {"traceparent": parent} if parent else {}

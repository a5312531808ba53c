"""Spans: one for each request, one for each question to the model, joined with the caller's and with Triton's.

Imported only where traces are wanted: without, nothing of it costs anything.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.context import attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, format_span_id, format_trace_id, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers

from newsdesk.clients.trace import traceparent

_FLUSH_SECONDS = 1.0


class Tracing:
    """Traces of requests: the caller chooses by traceparent's flag, else OTEL_TRACES_SAMPLER does."""

    def __init__(self, url: str) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME") or "newsdesk-gateway"
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
        self._tracer = self._provider.get_tracer("newsdesk.gateway")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, headers: Headers) -> Iterator[Span]:
        """A caller's request. It is given its name, route and status by `finish`."""
        caller = self._propagator.extract(headers)
        with self._carried(self._tracer.start_span("request", caller, SpanKind.SERVER)) as span:
            yield span

    @contextmanager
    def question(self, texts: int) -> Iterator[None]:
        """Texts on their way to the model and back, retries included."""
        span = self._tracer.start_span("ask the model", kind=SpanKind.CLIENT, attributes={"newsdesk.texts": texts})
        with self._carried(span):
            try:
                yield
            except Exception as error:
                span.set_status(StatusCode.ERROR, type(error).__name__)
                raise

    @contextmanager
    def _carried(self, span: Span) -> Iterator[Span]:
        """Make a span the one that others are under, here and in Triton."""
        context = span.get_span_context()
        ids = f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-01"
        # Triton traces whatever carries a traceparent, whether that says so or not.
        before = traceparent.set(ids if context.trace_flags.sampled else "")
        attached = attach(set_span_in_context(span))
        try:
            yield span
        finally:
            detach(attached)
            traceparent.reset(before)
            span.end()

    def finish(self, span: Span, method: str, route: str, status: int, request_id: str) -> str:
        """Say what a request was, and return the id of its trace. Texts and addresses are never attributes."""
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.request.method": method, "http.route": route, "newsdesk.request_id": request_id})
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        return format_trace_id(span.get_span_context().trace_id)

    def close(self) -> None:
        """Send what is left, for a moment: the collector may be away."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(_FLUSH_SECONDS)

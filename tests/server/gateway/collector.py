"""A collector of OpenTelemetry's traces over HTTP, in protobuf as the gateway sends it and in JSON as Triton does."""

import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    attributes: dict[str, Any]


@dataclass
class Collector:
    """Listens while it is entered, over TLS where it is given a certificate and its key."""

    spans: list[Span] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    files: tuple[Path, Path] | None = None

    def __enter__(self) -> Self:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                collector.bodies.append(body)
                collector.spans += _of_json(body) if self.headers["Content-Type"] == "application/json" else _of(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if self.files:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.files)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http{'s' * bool(self.files)}://127.0.0.1:{self._server.server_port}"

    def of(self, trace: str, count: int, seconds: float = 20) -> list[Span]:
        """Wait until a trace has at least `count` spans, and return them."""
        deadline = time.monotonic() + seconds
        while len(spans := [span for span in self.spans if span.trace == trace]) < count:
            assert time.monotonic() < deadline, spans
            time.sleep(0.05)
        return spans


def _of(body: bytes) -> list[Span]:
    return [
        Span(
            service=next(
                attribute.value.string_value
                for attribute in group.resource.attributes
                if attribute.key == "service.name"
            ),
            name=span.name,
            trace=span.trace_id.hex(),
            id=span.span_id.hex(),
            parent=span.parent_span_id.hex(),
            kind=span.kind,
            attributes={
                attribute.key: attribute.value.string_value or attribute.value.int_value
                for attribute in span.attributes
            },
        )
        for group in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _of_json(body: bytes) -> list[Span]:
    return [
        Span(
            service=_attributes(group["resource"])["service.name"],
            name=span["name"],
            trace=span["traceId"],
            id=span["spanId"],
            parent=span.get("parentSpanId", ""),
            kind=span["kind"],
            attributes=_attributes(span),
        )
        for group in json.loads(body)["resourceSpans"]
        for scope in group["scopeSpans"]
        for span in scope["spans"]
    ]


def _attributes(of: dict[str, Any]) -> dict[str, Any]:
    return {attribute["key"]: next(iter(attribute["value"].values())) for attribute in of.get("attributes", ())}

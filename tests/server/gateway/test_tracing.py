"""Traces: the caller's, the gateway's and Triton's are one, at a real collector; and without one there are none."""

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from newsdesk.clients import Client
from newsdesk.clients.trace import traceparent
from newsdesk.server.machine import traces
from newsdesk.server.serving import preflight
from newsdesk.server.serving.gateway import Gateway
from tests.launching import Server, free_ports, write_repository
from tests.server.gateway import gateways
from tests.server.gateway.collector import Collector, Span
from tests.server.gateway.conftest import STAND_IN

TRITON = ["InferRequest", "ag_news", "compute"]
TEXT = "Zanzibar shares"
CALLER = "b2" * 8
ASKED: set[str] = set()
"""The traces that tests asked in: spans of them may come late."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as listening:
        yield listening


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, httpx.Client]]:
    """A server with its gateway, started with the standard variables."""
    folder, port = tmp_path_factory.mktemp("traced"), free_ports()[0]
    options = ["--target", "openvino:int8", "--instances", "1", "--gateway-port", str(port)]
    server = Server(write_repository(folder / "models", STAND_IN.read_text()), folder / "state", options=options)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patched.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        server.start()
    try:
        server.until("Ctrl-C stops it")
        with gateways.client(f"http://127.0.0.1:{port}") as client:
            yield server, client
    finally:
        server.dismiss()


def chain(spans: list[Span], parent: str) -> list[Span]:
    """Return the spans from a parent down, each of which has one child."""
    chained: list[Span] = []
    while children := [span for span in spans if span.parent == parent]:
        chained += children
        (parent,) = [span.id for span in children]
    return chained


def whole(collector: Collector, ask: Callable[[str], object], count: int) -> tuple[str, list[Span]]:
    """Ask in a trace of its own until one has all its spans: Triton 24.10 loses those of some requests by gRPC."""
    asked: list[str] = []
    for _ in range(10):
        asked.append(f"{random.getrandbits(128):032x}")
        ASKED.add(asked[-1])
        ask(f"00-{asked[-1]}-{CALLER}-01")
        for seconds, trace in [(2.0, asked[-1]), *((0.0, early) for early in asked[:-1])]:
            with contextlib.suppress(AssertionError):
                return trace, collector.of(trace, count, seconds)
    pytest.fail(f"no trace with {count} spans: {collector.spans}")


def test_one_trace_from_the_caller_to_the_model(traced: tuple[Server, httpx.Client], collector: Collector) -> None:
    server, client = traced

    def ask(caller: str) -> None:
        headers = {"traceparent": caller, "X-Request-ID": caller}
        assert client.post("/v1/classify", json={"text": TEXT}, headers=headers).status_code == 200

    trace, spans = whole(collector, ask, 5)
    chained = chain(spans, CALLER)
    assert [span.name for span in chained] == ["POST /v1/classify", "ask the model", *TRITON]
    assert [span.service for span in chained] == ["newsdesk-gateway"] * 2 + ["triton-inference-server"] * 3
    assert chained[0].attributes["http.response.status_code"] == 200
    assert chained[0].attributes["newsdesk.request_id"] == f"00-{trace}-{CALLER}-01"
    assert chained[1].attributes["newsdesk.texts"] == 1
    (log,) = (server.state / "log").glob("gateway-*.log")
    (entry,) = [entry for entry in gateways.logged(log) if trace in entry.get("request_id", "")]
    assert entry["trace_id"] == trace


def test_what_is_passed_through_and_a_list_of_many(traced: tuple[Server, httpx.Client], collector: Collector) -> None:
    _, client = traced
    tensor = {"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": [TEXT]}

    def ask(path: str, body: Any, caller: str) -> None:
        assert client.post(path, json=body, headers={"traceparent": caller}).status_code == 200

    _, spans = whole(collector, partial(ask, "/v2/models/ag_news/infer", {"inputs": [tensor]}), 4)
    assert [span.name for span in chain(spans, CALLER)] == ["POST /v2/models/{model}/infer", *TRITON]
    _, spans = whole(collector, partial(ask, "/v1/classify", {"text": [TEXT] * 130}), 1 + 3 * (1 + len(TRITON)))
    asking = {span.id for span in spans if span.name == "ask the model"}  # each of its portions
    assert {span.parent for span in spans if span.name == "InferRequest"} == asking
    assert len(asking) == 3
    assert not any(b"Zanzibar" in body for body in collector.bodies)


def test_who_is_not_to_be_traced(traced: tuple[Server, httpx.Client], collector: Collector) -> None:
    """A caller who says so, health checks, probes, and who asks Triton without a trace of its own."""
    server, client = traced
    client.get("/health/ready")
    assert server.classify()[0] == 200
    client.post("/v1/classify", json={"text": TEXT}, headers={"traceparent": f"00-{'a4' * 16}-{CALLER}-00"})
    client.get("/v1/labels", headers={"traceparent": f"00-{'a5' * 16}-{CALLER}-01"})
    collector.of("a5" * 16, 1)
    time.sleep(1.5)  # the prober asks once a second
    assert {span.trace for span in collector.spans} - ASKED == {"a5" * 16}


@pytest.mark.parametrize("scheme", ["grpc", "http", "gateway+http"])
def test_the_sdk_carries_the_trace_that_it_is_called_in(
    traced: tuple[Server, httpx.Client], collector: Collector, scheme: str
) -> None:
    server, client = traced
    ports = {"http": server.ports[0], "grpc": server.ports[1], "gateway+http": client.base_url.port}
    with Client(f"{scheme}://127.0.0.1:{ports[scheme]}") as sdk:
        sdk.classify(TEXT)

        def ask(caller: str) -> None:
            before = traceparent.set(caller)
            try:
                sdk.classify([TEXT] * 130)  # three requests, each in a thread of its own
            finally:
                traceparent.reset(before)

        _, spans = whole(collector, ask, 3 * (5 if scheme.startswith("gateway") else 3))
    assert [span.name for span in spans].count("InferRequest") == 3
    callers = [span.name for span in spans if span.parent == CALLER]
    assert callers == ["POST /v1/models/{model}/classify" if scheme.startswith("gateway") else "InferRequest"] * 3


def test_a_collector_that_is_away_costs_nobody_an_answer(
    traced: tuple[Server, httpx.Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_ports()[0]}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    launch = gateways.launch(tmp_path, traced[0].ports)
    gateway = Gateway(launch, tmp_path / "gateway.log")
    gateway.start()
    gateways.until_listening(gateway)
    with gateways.client(launch.settings.local_url) as client:
        answers = [client.post("/v1/classify", json={"text": TEXT}) for _ in range(50)]
    gateway.ask_to_stop()
    gateway.wait()
    assert {answer.status_code for answer in answers} == {200}
    assert gateway.exit_code != -signal.SIGKILL  # it did not wait for the collector until it was killed
    complaints = [entry for entry in gateways.logged(tmp_path / "gateway.log") if entry["level"] != "info"]
    assert 0 < len(complaints) < 10


def test_without_an_endpoint_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        from tests.server.gateway import gateways
        from newsdesk.server.gateway import application
        application.create(gateways.launch(Path(sys.argv[1])), bool)
        print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
    """
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, ""),
        ({"ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        ({"ENDPOINT": "http://c:4318", "TRACES_ENDPOINT": "https://other/x"}, "https://other/x"),
        ({"ENDPOINT": "http://c:4318", "PROTOCOL": "http/protobuf"}, "http://c:4318/v1/traces"),
    ],
)
def test_the_endpoint_is_that_of_the_standard_variables(environ: dict[str, str], url: str) -> None:
    variables = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in environ.items()}
    assert traces.endpoint(variables) == url
    assert traces.endpoint(variables | {"OTEL_SDK_DISABLED": "true"}) == ""
    assert traces.endpoint(variables | {"OTEL_TRACES_EXPORTER": "none"}) == ""


def test_what_is_not_offered_stops_the_start_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(traces.TracesError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'; .*http/protobuf"):
        traces.endpoint()
    assert preflight._traces().level == "problem"
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318")
    with pytest.raises(traces.TracesError, match="expected the collector's URL"):
        traces.endpoint()

"""The means of `python -m benchmarks.gateway`: calls over HTTP/2, and a file made while it is sent."""

import os
from dataclasses import replace
from pathlib import Path

from benchmarks import bulk, grpc_load
from benchmarks.servers import Server
from newsdesk.server.serving import load
from newsdesk.server.serving.gateway import Gateway
from tests.headlines import TEXTS, unique
from tests.server.gateway import gateways

OUTPUTS = ("LABEL", "PROBABILITIES")


def run(server: Server, requests: list[bytes]) -> load.LoadReading:
    return load.run("127.0.0.1", server.grpc_port, requests, clients=3, seconds=1, warm_up=0.2, kind=grpc_load.Client)


def test_calls_are_answered_one_after_another_on_each_connection(server: Server) -> None:
    reading = run(server, grpc_load.encode(TEXTS, "balanced", OUTPUTS))
    assert reading.answers > 10
    assert reading.failures == 0
    assert 0 < reading.p50_ms <= reading.p99_ms


def test_refused_calls_are_failures(server: Server) -> None:
    reading = run(server, grpc_load.encode(["", "  "], "balanced", OUTPUTS))
    assert reading.failures == reading.answers > 10


def test_a_file_s_rows_are_answered_in_order_within_constant_memory(server: Server, tmp_path: Path) -> None:
    launch = gateways.launch(tmp_path, [server.http_port, server.grpc_port])
    gateway = Gateway(launch, tmp_path / "gateway.log")  # a process that is known by its command
    gateway.start()
    try:
        gateways.until_listening(gateway)
        front = replace(server, gateway_port=launch.settings.port, pid=os.getpid())
        sent = bulk.classify(front, unique(50), rows=2 * bulk.BATCH + 7, distinct=20, quality="fast")
    finally:
        gateway.ask_to_stop()
        gateway.wait()
    assert (sent.answered, sent.problems) == (2 * bulk.BATCH + 7, 0), sent.first_problem
    assert len(sent.memory) >= 2
    assert 20 < sent.memory[0][1] < 400
    assert sent.growth < 30

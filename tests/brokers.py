"""A real Redis, and librdkafka's own mock of a Kafka cluster, for one test or for a session of them."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.launching import free_ports


@contextmanager
def redis_server(folder: Path, *options: str, authority: Authority | None = None) -> Iterator[str]:
    """Start a Redis that keeps nothing, and yield where it is: redis://127.0.0.1:port.

    By an authority it speaks TLS alone, and the URL, rediss://, names that as the one to trust.
    """
    server, (port, *_) = shutil.which("redis-server"), free_ports()
    if server is None:
        pytest.skip("Redis is no Python package: apt-get install redis-server")
    ports, url = ["--port", port], f"redis://127.0.0.1:{port}"
    if authority:
        cert, key = authority.issue(folder, "redis")
        ports = ["--port", 0, "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key]
        ports += ["--tls-ca-cert-file", authority.file, "--tls-auth-clients", "no"]
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={authority.file}"
    command = [server, *ports, "--bind", "127.0.0.1", "--save", "", "--dir", folder, *options]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None  # one that was built without TLS ends
            time.sleep(0.01)
        yield url
    finally:
        process.terminate()
        process.wait()


@contextmanager
def kafka_cluster() -> Iterator[str]:
    """Start a mock cluster of one broker within this process, and yield its address; topics are made as they are named.

    It speaks the real protocol to any client of any process.
    """
    from confluent_kafka import Producer

    holder = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 3})
    brokers = holder.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    holder.flush(1)

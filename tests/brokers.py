"""A real Redis, and librdkafka's own mock of a Kafka cluster, for one test or for a session of them."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.launching import free_ports


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[str]:
    """Start a Redis that keeps nothing, and yield where it is: redis://127.0.0.1:port."""
    server, (port, *_) = shutil.which("redis-server"), free_ports()
    if server is None:
        pytest.skip("Redis is no Python package: apt-get install redis-server")
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None
            time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}"
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

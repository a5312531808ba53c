"""Start the servers to be measured, on free loopback ports, and end them."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 180


@dataclass(frozen=True)
class Server:
    """A running server: where it listens, how long it took until its first answer, and its process."""

    http_port: int
    grpc_port: int
    metrics_port: int
    start_seconds: float
    pid: int

    def resident_mb(self) -> float:
        """Return the memory resident in its processes, shared pages counted once (PSS), in MB."""
        return sum(_pss_kb(pid) for pid in family(self.pid)) / 1e3


@contextmanager
def newsdesk(*flags: str) -> Iterator[Server]:
    """Serve the shipped model with `newsdesk serve`."""
    http, grpc, metrics = free_ports(3)
    ports = ["--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics), "--no-gateway"]
    command = [str(Path(sys.executable).with_name("newsdesk")), "serve", *ports, *flags]
    with _running(command, {}, http, "/v2/models/ag_news/ready", grpc, metrics) as server:
        yield server


@contextmanager
def fastapi_pipeline(checkpoint: Path, workers: int, threads: int) -> Iterator[Server]:
    """Serve a `from_pretrained` folder by FastAPI and a transformers pipeline under uvicorn."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "benchmarks.peers.fastapi_pipeline:app", "--port", str(port)]
    command += ["--workers", str(workers), "--log-level", "warning", "--no-access-log"]
    environment = {"CHECKPOINT": str(checkpoint), "THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    with _running(command, environment, port, "/docs") as server:
        yield server


@contextmanager
def _running(
    command: list[str],
    environment: dict[str, str],
    http_port: int,
    ready: str,
    grpc_port: int = 0,
    metrics_port: int = 0,
) -> Iterator[Server]:
    start = time.monotonic()
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        while not _answers(f"http://127.0.0.1:{http_port}{ready}"):
            if process.poll() is not None or time.monotonic() - start > START_SECONDS:
                process.kill()
                raise RuntimeError(f"{' '.join(command)}: did not start\n{process.communicate()[1]}")
            time.sleep(0.05)
        yield Server(http_port, grpc_port, metrics_port, time.monotonic() - start, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(descendant for child in children for descendant in family(int(child)))]


def _pss_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))

"""Start the servers to be measured, on free loopback ports, and end them."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from newsdesk.server.machine import processes

START_SECONDS = 180


@dataclass(frozen=True)
class Server:
    """A running server: where it listens, how long it took until its first answer, and its process."""

    http_port: int
    grpc_port: int
    metrics_port: int
    start_seconds: float
    pid: int
    gateway_port: int = 0
    gateway_grpc_port: int = 0

    def resident_mb(self) -> float:
        """Return the memory resident in its processes, shared pages counted once (PSS), in MB."""
        return resident_mb(family(self.pid))

    def idle_mb(self) -> float:
        """Return the least that it is within three seconds, when nobody asks any more: without what batches take."""
        samples = []
        for _ in range(6):
            time.sleep(0.5)
            samples.append(self.resident_mb())
        return min(samples)


@contextmanager
def newsdesk(*flags: str, gateway: bool = False, environment: Mapping[str, str] = os.environ) -> Iterator[Server]:
    """Serve the shipped model with `newsdesk serve`, behind its gateway where that is wanted."""
    http, grpc, metrics, front, front_grpc = free_ports(5)
    ports = ["--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)]
    fronts = ["--gateway-port", str(front), "--gateway-grpc-port", str(front_grpc)]
    ports += fronts if gateway else ["--no-gateway"]
    command = [str(Path(sys.executable).with_name("newsdesk")), "serve", *ports, *flags]
    asked, path = (front, "/health/ready") if gateway else (http, "/v2/models/ag_news/ready")
    scheme = "https" if gateway and "--tls-cert" in flags else "http"
    ports_of = {"grpc_port": grpc, "metrics_port": metrics}
    with running(command, asked, path, **ports_of, scheme=scheme, environment=environment) as server:
        fronts_of = {"gateway_port": front, "gateway_grpc_port": front_grpc} if gateway else {}
        yield replace(server, http_port=http, **fronts_of)


@contextmanager
def fastapi_pipeline(checkpoint: Path, workers: int, threads: int, python: str = sys.executable) -> Iterator[Server]:
    """Serve a `from_pretrained` folder by FastAPI and a transformers pipeline under uvicorn."""
    (port,) = free_ports(1)
    command = [python, "-m", "uvicorn", "benchmarks.peers.fastapi_pipeline:app", "--port", str(port)]
    command += ["--workers", str(workers), "--log-level", "warning", "--no-access-log"]
    environment = {"CHECKPOINT": str(checkpoint), "THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    with running(command, port, "/docs", environment=environment) as server:
        yield server


@contextmanager
def running(
    command: Sequence[str],
    http_port: int,
    path: str,
    body: bytes | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
    grpc_port: int = 0,
    metrics_port: int = 0,
    within: float = START_SECONDS,
    scheme: str = "http",
) -> Iterator[Server]:
    """Run a server from when `path` answers (a GET, or a POST of a JSON body) until it and all below it are ended.

    Raises RuntimeError with what it said where it does not start.
    """
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        below: list[processes.Process] = []
        try:
            # Triton opens its metrics last, after the model answers.
            while not answers(f"{scheme}://127.0.0.1:{http_port}{path}", body) or (
                metrics_port and not answers(f"http://127.0.0.1:{metrics_port}/metrics", None)
            ):
                if process.poll() is not None or time.monotonic() - start > within:
                    output.seek(0)
                    raise RuntimeError(f"{' '.join(command)}: did not start\n{output.read()[-4000:]}")
                time.sleep(0.05)
            yield Server(http_port, grpc_port, metrics_port, time.monotonic() - start, process.pid)
        finally:
            if process.poll() is None:
                below = [processes.find(pid) for pid in family(process.pid)[1:]]
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for process in below:  # what a server leaves running would take its share of the next one's cores
                process.kill()


def answers(url: str, body: bytes | None = None) -> bool:
    """Return whether a GET, or a POST of a JSON body, is answered with 200."""
    asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        # Whether it is up is all that is asked: its certificate is not looked at.
        trusting = ssl._create_unverified_context() if url.startswith("https") else None
        with urllib.request.urlopen(asked, timeout=20 if body else 1, context=trusting) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [bound.getsockname()[1] for bound in sockets]
    for bound in sockets:
        bound.close()
    return ports


def family(pid: int) -> list[int]:
    """Return a process and all below it, whichever of its threads started them."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def resident_mb(pids: Sequence[int]) -> float:
    """Return the memory resident in processes, shared pages counted once (PSS), in MB."""
    resident = 0
    for pid in pids:
        with contextlib.suppress(psutil.Error):  # it has ended
            resident += psutil.Process(pid).memory_full_info().pss
    return resident / 1024 / 1e3

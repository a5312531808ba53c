"""Gateways that do more for a request than the plain one: ask for a key, speak TLS, count in Redis, send traces."""

import contextlib
import functools
import multiprocessing
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

import redis

from benchmarks import servers
from benchmarks.paired import Front
from newsdesk.server.gateway.keys import KeyFile, Role
from tests import brokers
from tests.certificates import Authority

DOORS = {
    "keys": "with a key",
    "tls": "with TLS",
    "redis": "rates in Redis",
    "redis-tls": "rates in Redis, by TLS",
    "otlp": "traces",
    "otlp-tls": "traces, by TLS",
}
"""The doors, and what is behind the name of a side of theirs: behind the last comma, what it is compared without."""
_UNREACHED = "1000000/minute"
_NONE = "in 0 posts of the gateway"


@dataclass(frozen=True)
class Beside:
    """A gateway beside the plain one, and a sentence of what it did for its requests."""

    front: Front
    proof: Callable[[], str] = str


def wanted(doors: Sequence[str]) -> list[str]:
    """Return the doors with those that they are compared with: redis-tls beside redis."""
    return list(dict.fromkeys(door for name in doors for door in (name.removesuffix("-tls"), name)))


@contextlib.contextmanager
def serve(doors: Sequence[str]) -> Iterator[dict[str, Beside]]:
    """Serve the gateways of doors, by the names of `DOORS`."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority = Authority(folder / "authority.pem")
        ways = {"keys": _keys, "tls": _tls, "redis": _redis, "otlp": _otlp}
        fronts = {}
        for door in doors:
            kind, _, over_tls = door.partition("-")
            way = functools.partial(ways[kind], authority=authority if over_tls or kind == "tls" else None)
            (folder / door).mkdir()
            fronts[DOORS[door]] = stack.enter_context(way(folder / door))
        yield fronts


@contextlib.contextmanager
def _keys(folder: Path, authority: None) -> Iterator[Beside]:
    file = folder / "keys.json"
    key = KeyFile(file).create("of the benchmark", Role.reader, None)[1]
    with servers.newsdesk("--auth", "--keys", str(file), gateway=True) as server:
        yield Beside(Front(server, key=key))


@contextlib.contextmanager
def _tls(folder: Path, authority: Authority) -> Iterator[Beside]:
    certificate, private = authority.issue(folder)
    with servers.newsdesk("--tls-cert", str(certificate), "--tls-key", str(private), gateway=True) as server:
        yield Beside(Front(server, authority=str(authority.file)))


@contextlib.contextmanager
def _redis(folder: Path, authority: Authority | None) -> Iterator[Beside]:
    """The limit is never reached: each request is counted, and none is turned away."""
    with brokers.redis_server(folder, authority=authority) as url, redis.Redis.from_url(url) as client:
        flags = "--rate-limit", _UNREACHED, "--rate-storage", url
        with servers.newsdesk(*flags, gateway=True) as server:
            yield Beside(
                Front(server), lambda: f"Redis ran {client.info('stats')['total_commands_processed']} commands"
            )


@contextlib.contextmanager
def _otlp(folder: Path, authority: Authority | None) -> Iterator[Beside]:
    """Each request is traced, by the gateway and by Triton."""
    files = authority.issue(folder) if authority else None
    environment = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(authority.file)} if authority else {}
    environment |= dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), "")  # which would go before that one
    with _collector(files) as (url, received):
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
        with servers.newsdesk(gateway=True, environment=environment) as server:
            end = time.monotonic() + servers.START_SECONDS
            while _NONE in received():  # else traces that never arrive would be measured
                if time.monotonic() > end:
                    raise RuntimeError(f"no traces of the gateway come to {url}")
                servers.answers(f"http://127.0.0.1:{server.gateway_port}/v1/classify", b'{"text": "a match"}')
                time.sleep(1)
            yield Beside(Front(server), received)


@contextlib.contextmanager
def _collector(files: tuple[Path, Path] | None) -> Iterator[tuple[str, Callable[[], str]]]:
    """Take traces in a process of its own, so that the generator of load does not wait for it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_collect, args=(theirs, files), daemon=True)
    process.start()
    port = ours.recv()

    def received() -> str:
        ours.send("how much?")
        return ours.recv()

    try:
        yield f"http{'s' * bool(files)}://127.0.0.1:{port}", received
    finally:
        process.terminate()
        process.join()


def _collect(pipe: Connection, files: tuple[Path, Path] | None) -> None:
    sizes: dict[str, list[int]] = {"application/x-protobuf": [], "application/json": []}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sizes[self.headers["Content-Type"]].append(len(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if files:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pipe.send(server.server_port)
    while pipe.recv():
        ways = zip(("the gateway", "Triton"), sizes.values(), strict=True)
        amounts = (f"{sum(bodies) / 1e6:.1f} MB in {len(bodies)} posts of {way}" for way, bodies in ways)
        pipe.send(f"the collector took {' and '.join(amounts)}")

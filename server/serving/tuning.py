"""Measure, through the real server, what serves these very texts best on this very machine; keep it for `serve`.

The engine of each member first (see `prepare`), then processes × threads, then how long a request waits for company.
"""

import contextlib
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

from newsdesk.server.machine import processes
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.errors import ServerError
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.serving import load, prepare
from newsdesk.server.serving.load import LoadReading
from newsdesk.server.serving.settings import Settings, granted_cores

ALONE, MANY = 1, 64
"""Clients of the two loops that each set-up is measured in."""
DELAYS = 500, 2000
"""Microseconds that are tried beside none."""
NEARLY = 0.97
"""The share of the best throughput that is as good as it: the set-up that answers a single client soonest wins."""
_START_SECONDS = 180


class TuningError(ServerError):
    """No set-up could be measured."""


class Setup(Struct, frozen=True):
    """Backend processes, threads of each, and microseconds that a request may wait for others."""

    instances: int
    threads: int
    queue_delay: int


class Point(Struct, frozen=True):
    """A set-up measured at one client and at many, or why it could not be."""

    setup: Setup
    alone: LoadReading | None = None
    many: LoadReading | None = None
    refused: str = ""


class Tuning(Struct, frozen=True):
    """The record of a tuning, kept in the state folder."""

    best: Setup
    target: str
    curve: list[Point]
    machine: str
    cores: int
    texts: int
    mean_words: float


def candidates(cores: int) -> list[Setup]:
    """Return the ways to spend the cores: every n × m that fills them, one process more, and one process alone."""
    shares = [(cores // threads, threads) for threads in range(1, cores + 1) if cores % threads == 0]
    tried = dict.fromkeys([*shares, (cores + 1, 1), (1, 1)])
    return [Setup(instances, threads, 0) for instances, threads in tried]


def choose(curve: list[Point]) -> Setup:
    """Return the set-up with the highest throughput; of those that come near, the one fastest for one client.

    Raises:
        TuningError: none could be measured.
    """
    measured = [point for point in curve if point.alone and point.many]
    if not measured:
        raise TuningError("no set-up could be measured: " + "; ".join(point.refused for point in curve))
    most = max(point.many.per_second for point in measured)  # type: ignore[union-attr]
    near = [point for point in measured if point.many.per_second >= NEARLY * most]  # type: ignore[union-attr]
    return min(near, key=lambda point: point.alone.p50_ms).setup  # type: ignore[union-attr]


def tune(settings: Settings, model: str, texts: list[str], seconds: float, say: Callable[[str], None]) -> Tuning:
    """Measure a model, record what was found in the state folder, and return it.

    Args:
        settings: of the server
        model: its name in the repository
        texts: what is classified, one at least
        seconds: of all loads together, about
        say: is told of each set-up

    Raises:
        ServerError: no engine can serve, or no set-up starts.
    """
    sample = random.Random(7).sample(texts, min(len(texts), prepare.TEXTS))
    prepared = prepare.prepare(settings.model_repository / model, settings.state, say, again=True, texts=sample)
    cores = granted_cores()
    setups = candidates(cores)
    each = max(1.0, seconds / (len(setups) + len(DELAYS)) / 3)
    curve: list[Point] = []

    def measure(setup: Setup) -> None:
        say(f"measuring {setup.instances} processes of {setup.threads} threads, delay {setup.queue_delay} µs")
        curve.append(_measure(settings, model, prepared.target, setup, texts, each))

    for setup in setups:
        measure(setup)
    best = choose(curve)
    for delay in DELAYS:
        measure(Setup(best.instances, best.threads, delay))
    words = sum(len(text.split()) for text in texts) / len(texts)
    tuned = Tuning(choose(curve), prepared.target, curve, prepared.machine, cores, len(texts), round(words, 1))
    record = _record(settings, model)
    record.parent.mkdir(parents=True, exist_ok=True)
    partial = record.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(tuned), indent=1))
    partial.replace(record)
    return tuned


def applied(settings: Settings, model: str, without: str = "") -> Settings:
    """Return settings with what `tune` found for a model on this machine, wherever they leave it open.

    The version `without` is not the one that serves.
    """
    try:
        tuned = msgspec.json.decode(_record(settings, model, without).read_bytes(), type=Tuning)
        loaded = manifest.load(latest_version(settings.model_repository / model, without))
    except (OSError, ServerError, msgspec.DecodeError):
        return settings
    if not prepare.can_serve(tuned.target, loaded):
        return settings
    free = not (settings.instances or settings.threads)
    return replace(
        settings,
        instances=tuned.best.instances if free else settings.instances,
        threads=tuned.best.threads if free else settings.threads,
        queue_delay=tuned.best.queue_delay if settings.queue_delay is None else settings.queue_delay,
        target=settings.target or tuned.target,
    )


def _record(settings: Settings, model: str, without: str = "") -> Path:
    """Return where the findings for a model, these packages, this processor and these cores are kept."""
    folder = latest_version(settings.model_repository / model, without)
    key = sha256(json.dumps([prepare.key(folder), granted_cores()]).encode()).hexdigest()[:16]
    return settings.state / "tuned" / f"{key}.json"


def _measure(settings: Settings, model: str, target: str, setup: Setup, texts: list[str], seconds: float) -> Point:
    try:
        with _server(settings, model, target, setup) as port:
            requests = load.asking(port, model, texts)
            load.run("127.0.0.1", port, requests, 8, 1)  # the shapes of these texts are compiled
            alone = load.run("127.0.0.1", port, requests, ALONE, seconds, warm_up=0.5)
            many = load.run("127.0.0.1", port, requests, MANY, seconds, warm_up=1)
    except (RuntimeError, OSError) as error:
        return Point(setup, refused=str(error))
    return Point(setup, alone, many)


@contextlib.contextmanager
def _server(settings: Settings, model: str, target: str, setup: Setup) -> Iterator[int]:
    """Serve by `newsdesk serve` on free ports; yields the HTTP port. Raises RuntimeError with what it said."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        ports = [listening.getsockname()[1] for listening in sockets]
    program = "from newsdesk.server.serving.commands import serve; import typer; typer.run(serve)"
    command = [sys.executable, "-P", "-c", program, "--json", "--no-gateway", "--model", model, "--target", target]
    for name, value in {
        "model-repository": settings.model_repository,
        "state": settings.state,
        "instances": setup.instances,
        "threads": setup.threads,
        "queue-delay": setup.queue_delay,
        **dict(zip(("http-port", "grpc-port", "metrics-port"), ports, strict=True)),
    }.items():
        command += [f"--{name}", str(value)]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=processes.die_with_parent()
        )
        try:
            deadline = time.monotonic() + _START_SECONDS
            while True:
                log.seek(0)
                output = log.read()
                if _serves(output):
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"did not start: {output.strip().splitlines()[-1:]}")
                time.sleep(0.1)
            yield ports[0]
        finally:
            process.terminate()
            process.wait()


def _serves(output: str) -> bool:
    """Return whether `newsdesk serve --json` has said that it does. Lines that are no objects say what failed."""
    whole = output[: output.rfind("\n") + 1]  # the last line may still be written
    return any(json.loads(line)["event"] == "serving" for line in whole.splitlines() if line.startswith("{"))

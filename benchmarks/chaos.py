"""Bounded chaos on the loopback, under 64 clients of the SDK with deadlines. At random, processes are killed or
stopped, the disk fills, clients vanish, and the model is reloaded. Every answer is checked.

    python -m benchmarks.chaos [--seconds 60] [--seed 7] [--clients 64] [--within 15]

The seed says what happens in which order; it is printed with the log. Ends with code 1 where an answer is wrong, a
request is lost, or the server is not whole again in time after an action. The disk is filled where this user may mount
one, a small tmpfs.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks import servers, texts
from newsdesk.clients import Client, NewsdeskError
from newsdesk.server.machine import processes
from newsdesk.server.machine.servers import running
from newsdesk.server.runtime.cores import FEWEST_INSTANCES
from newsdesk.server.serving.settings import default_state
from newsdesk.server.serving.triton import STUB

DEADLINE = 45.0
"""Seconds that a client gives each of its requests."""
TOLERANCE = 0.02
"""int8 rounds differently in another batch's shape: within this much of a tie, the label may differ."""
_DISK_BYTES = 256 * 2**20
_VANISHING = 40
_QUIET_SECONDS = 1.0
_LOST_SECONDS = 120.0


@dataclass
class ChaosOutcome:
    """The result: requests by kind, actions with the seconds until the server was whole again, and problems."""

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    log: list[tuple[float, str, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.counts['right']} right answers, {len(self.problems)} problems"]
        lines += [f"{at:7.1f} s  {action:22} whole again after {whole:5.1f} s" for at, action, whole in self.log]
        return "\n".join(lines + self.problems[:20])


class Victim:
    """A running server, and what can be done to it."""

    def __init__(self, server: servers.Server, state: Path, full: bool, chance: random.Random) -> None:
        self.server, self._state, self._chance = server, state, chance
        self.actions: dict[str, Callable[[], None]] = {
            "kill a backend process": lambda: self._signal(chance.choice(self._stubs()), signal.SIGKILL),
            "stop a backend process": lambda: self._signal(chance.choice(self._stubs()), signal.SIGSTOP),
            "kill tritonserver": lambda: self._signal(self._child("tritonserver"), signal.SIGKILL),
            "stop tritonserver": lambda: self._signal(self._child("tritonserver"), signal.SIGSTOP),
            "kill the gateway": lambda: self._signal(self._gateway(), signal.SIGKILL),
            "stop the gateway": lambda: self._signal(self._gateway(), signal.SIGSTOP),
            "clients vanish": self._vanish,
            "reload": lambda: os.kill(server.pid, signal.SIGUSR1),
        }
        if full:
            self.actions["fill the disk and kill"] = self._fill

    def whole(self) -> bool:
        """Return whether every process works, and everybody who asks is answered."""
        try:
            parts = [self._child("tritonserver"), self._gateway(), *self._stubs()]
            says = running(self._state)
        except (OSError, ValueError, IndexError, psutil.Error):
            return False
        working = len(parts) >= 2 + FEWEST_INSTANCES and all(part.working for part in parts)
        return working and bool(says) and not any(served.unready for served in says[0][2].values()) and self._answers()

    def clear(self) -> None:
        """Give the disk its room back."""
        (self._state / "filler").unlink(missing_ok=True)

    def _answers(self) -> bool:
        for port, path in (self.server.gateway_port, "/health/ready"), (self.server.http_port, "/v2/health/ready"):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as response:
                    if response.status != 200:
                        return False
            except (urllib.error.URLError, OSError):
                return False
        return True

    def _signal(self, process: processes.Process, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)

    def _child(self, name: str) -> processes.Process:
        (child,) = processes.children(self.server.pid, name)
        return child

    def _stubs(self) -> list[processes.Process]:
        return sorted(processes.children(self._child("tritonserver").pid, STUB), key=lambda stub: stub.start)

    def _gateway(self) -> processes.Process:
        below = psutil.Process(self.server.pid).children()
        (gateway,) = [child for child in below if "newsdesk.server.gateway" in child.cmdline()]
        return processes.find(gateway.pid)

    def _vanish(self) -> None:
        body = b'{"text": "a client that is gone before it is answered"}'
        head = f"POST /v1/classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n".encode()
        request = head + b"Content-Type: application/json\r\n\r\n" + body
        for _ in range(_VANISHING):
            with contextlib.suppress(OSError), self._connection() as connection:
                connection.sendall(request[: self._chance.randrange(1, len(request) + 1)])

    def _connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.gateway_port), 2)

    def _fill(self) -> None:
        with contextlib.suppress(OSError), (self._state / "filler").open("wb", buffering=0) as filler:
            for _ in range(2 * _DISK_BYTES // 2**16):
                filler.write(bytes(2**16))
        self._signal(self._chance.choice(self._stubs()), signal.SIGKILL)


class Clients:
    """Threads that classify without a pause, over gRPC and through the gateway, and check what they get."""

    def __init__(self, server: servers.Server, count: int, articles: Sequence[str], outcome: ChaosOutcome) -> None:
        urls = f"grpc://127.0.0.1:{server.grpc_port}", f"gateway+http://127.0.0.1:{server.gateway_port}"
        self._clients = [Client(urls[i % 2], timeout=DEADLINE, retries=200, concurrency=count) for i in range(4)]
        self._articles, self._outcome, self._over = articles, outcome, threading.Event()
        self._alone = [self._clients[0].classify(article) for article in articles]
        self._threads = [threading.Thread(target=self._ask, args=(i,), daemon=True) for i in range(count)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(2 * DEADLINE)
        for client in self._clients:
            client.close()

    def _ask(self, i: int) -> None:
        client, place = self._clients[i % len(self._clients)], i
        while not self._over.is_set():
            place = (place + 1) % len(self._articles)
            began = time.monotonic()
            try:
                answer = client.classify(self._articles[place])
            except NewsdeskError as error:
                took = time.monotonic() - began
                self._outcome.problems.append(f"lost after {took:.1f} s: {type(error).__name__}: {error}")
                continue
            alone = self._alone[place]
            first, second = sorted(alone.probabilities.values(), reverse=True)[:2]
            if answer.label != alone.label and first - second > 2 * TOLERANCE:
                self._outcome.problems.append(f"text {place} is {answer.label}, alone {alone.label}")
            else:
                self._outcome.counts["right"] += 1


def chaos(
    victim: Victim, articles: Sequence[str], clients: int, seconds: float, within: float, outcome: ChaosOutcome
) -> None:
    """Let happen what the seed says, one action after the other, each when the server is whole again."""
    chance = random.Random(outcome.seed)
    with Clients(victim.server, clients, articles, outcome):
        began = time.monotonic()
        order: list[str] = []
        while time.monotonic() - began < seconds:
            order = order or chance.sample(sorted(victim.actions), len(victim.actions))
            action = order.pop()
            at = time.monotonic()
            victim.actions[action]()
            whole = until_whole(victim, at)
            victim.clear()
            outcome.log.append((at - began, action, whole))
            print(f"{at - began:7.1f} s  {action:22} whole again after {whole:5.1f} s", flush=True)
            if whole > within:
                outcome.problems.append(f"{action}: whole again after {whole:.1f} s, promised within {within:.0f}")
            if whole >= _LOST_SECONDS:
                break
            time.sleep(_QUIET_SECONDS * (0.5 + chance.random()))


def until_whole(victim: Victim, since: float) -> float:
    """Return the seconds until the server was whole, and still was a moment later."""
    while (now := time.monotonic()) < since + _LOST_SECONDS:
        if victim.whole():
            time.sleep(0.5)
            if victim.whole():
                return now - since
        time.sleep(0.1)
    return _LOST_SECONDS


@contextlib.contextmanager
def state_folder(wanted: bool) -> Iterator[tuple[Path, bool]]:
    """Yield a state folder with what was measured on this machine, and whether it is a disk that may be filled, as is
    `wanted`.
    """
    with tempfile.TemporaryDirectory(prefix="newsdesk-chaos-") as folder:
        state = Path(folder) / "state"
        state.mkdir(mode=0o700)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES},mode=700", "newsdesk-chaos", str(state)]
        mounted = (
            wanted and os.getuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
        )
        try:
            for name in "prepared", "tuned":
                if (default_state() / name).is_dir():
                    shutil.copytree(default_state() / name, state / name)
            yield state, mounted
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", str(state)], check=True)


def run(seconds: float, seed: int, clients: int = 64, within: float = 15.0, flags: Sequence[str] = ()) -> ChaosOutcome:
    """Serve, let chaos happen, and return what came of it."""
    outcome = ChaosOutcome(seed)
    articles = texts.choose(None)
    with (
        state_folder(wanted=True) as (state, full),
        servers.newsdesk("--state", str(state), *flags, gateway=True) as server,
    ):
        print(f"seed {seed}, {clients} clients, the disk is {'' if full else 'not '}filled", flush=True)
        chaos(Victim(server, state, full, random.Random(seed)), articles, clients, seconds, within, outcome)
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--within", type=float, default=15.0, help="seconds in which it must be whole again")
    parser.add_argument("flags", nargs="*", help="further flags of `newsdesk serve`, after --")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started and mounted ends, too
    outcome = run(options.seconds, options.seed, options.clients, options.within, options.flags)
    print(outcome)
    if outcome.problems:
        sys.exit(1)


if __name__ == "__main__":
    main()

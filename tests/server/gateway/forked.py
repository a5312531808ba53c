"""Gateways that are forked from a process which has imported everything: a start takes that a second and a half."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path

from newsdesk.server.gateway.settings import Launch
from newsdesk.server.machine import addresses, processes
from newsdesk.server.serving import health
from tests.holding import until

_FORKS = """
import base64, io, json, os, signal, sys
from newsdesk.server.gateway import __main__ as gateway
from newsdesk.server.machine import processes

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
dying = processes.die_with_parent()
for line in sys.stdin:
    order = json.loads(line)
    if child := os.fork():
        print(child, flush=True)
        continue
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        dying()
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["folder"])
        sys.stdin = io.TextIOWrapper(io.BytesIO(base64.b64decode(order["launch"])))
        gateway.main()
        code = 0
    except BaseException as error:
        print(f"newsdesk: {error!r}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
"""


class Forked:
    """A gateway as `newsdesk.server.gateway` starts it, but for the imports."""

    def __init__(self, launch: Launch, log: Path) -> None:
        self._launch, self._log = launch, log

    def start(self) -> None:
        """Start it. Returns before it listens."""
        order = {
            "launch": base64.b64encode(self._launch.encode()).decode(),
            "log": str(self._log),
            "environment": processes.environment_apart(),
            "folder": str(self._launch.state),
        }
        forks = _forks()
        assert forks.stdin is not None
        assert forks.stdout is not None
        forks.stdin.write(json.dumps(order) + "\n")
        forks.stdin.flush()
        self._process = processes.find(int(forks.stdout.readline()))

    def live(self) -> bool:
        """Return whether it listens."""
        assert self._process.alive, self._log.read_text()
        settings = self._launch.settings
        host = addresses.local(settings.host)
        return health.ask(host, settings.port, "/health/live", 1, settings.encrypted) == 200

    def stop(self) -> None:
        """Ask it to end, and wait for that."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)
        until(lambda: not self._process.alive)


@cache
def _forks() -> "subprocess.Popen[str]":
    """Return the process that forks them. It ends with this one, and they with it."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=processes.die_with_parent(),
    )

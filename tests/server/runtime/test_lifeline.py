"""A process with a lifeline ends with whoever holds the other end, even where it is stopped."""

import os
import signal
import subprocess
import sys
from pathlib import Path

_HELD = "from newsdesk.server.runtime import lifeline; lifeline.hold(); print('held', flush=True); input()"


def start(fifo: Path, code: str, writing: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[writing],
        env={**os.environ, "NEWSDESK_LIFELINE": f"{writing}:{fifo}"},
    )


def test_all_end_with_their_server_and_none_before(tmp_path: Path) -> None:
    fifo = tmp_path / "lifeline"
    os.mkfifo(fifo)
    writing = os.open(fifo, os.O_RDWR)
    first, stopped = (start(fifo, _HELD, writing) for _ in range(2))
    for process in first, stopped:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
    os.kill(stopped.pid, signal.SIGSTOP)
    first.communicate("\n", timeout=10)
    assert (first.returncode, stopped.poll()) == (0, None)
    os.close(writing)  # as the kernel does when the server ends
    assert stopped.wait(10) == -signal.SIGKILL


def test_a_server_that_ended_before_is_noticed(tmp_path: Path) -> None:
    fifo = tmp_path / "lifeline"
    os.mkfifo(fifo)
    writing = os.open(fifo, os.O_RDWR)
    late = start(fifo, f"input(); {_HELD}", writing)
    os.close(writing)
    assert late.communicate("\n\n", timeout=10)[0] == ""
    assert late.returncode == -signal.SIGKILL


def test_without_a_server_nothing_happens() -> None:
    code = "from newsdesk.server.runtime import lifeline; lifeline.hold({}); print('alone')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"alone\n"

"""A process's /proc: a profiler that looks at one does not make it dead."""

import ctypes
import os
import signal
import subprocess

import pytest

from newsdesk.server.machine import processes
from tests.holding import until

_PTRACE_SEIZE, _PTRACE_INTERRUPT = 0x4206, 0x4207


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "60"])
    yield processes.find(process.pid)
    process.kill()
    process.wait()


def test_one_that_sleeps_works(sleeper: processes.Process) -> None:
    until(lambda: sleeper.state == "S")
    assert sleeper.alive
    assert sleeper.working
    assert not sleeper.held


def test_one_that_a_signal_stopped_does_not_work(sleeper: processes.Process) -> None:
    os.kill(sleeper.pid, signal.SIGSTOP)
    until(lambda: sleeper.state == "T")
    assert sleeper.alive
    assert not sleeper.working
    assert sleeper.held


def test_one_that_a_profiler_looks_at_works(sleeper: processes.Process) -> None:
    """py-spy stops a process for each sample; healing on that lost the requests of a healthy process."""
    libc = ctypes.CDLL(None, use_errno=True)
    for request in (_PTRACE_SEIZE, _PTRACE_INTERRUPT):
        assert libc.ptrace(request, sleeper.pid, None, None) == 0, os.strerror(ctypes.get_errno())
    until(lambda: sleeper.state == "t")
    assert sleeper.working
    assert sleeper.held


def test_one_that_ended_is_no_more(sleeper: processes.Process) -> None:
    sleeper.kill()
    until(lambda: not sleeper.alive)
    assert not sleeper.working
    assert not sleeper.held

"""A backend process ends with its tritonserver, however that ends, even where it is stopped or waits in vain.

The parent-death signal of Linux is of no use: it comes when the thread that started a process ends, and Triton starts
backend processes from threads of a moment. So tritonserver holds the writing end of a FIFO. When the last such end is
closed, the kernel kills whoever asked for it.
"""

import contextlib
import fcntl
import os
import signal
from collections.abc import Mapping

VARIABLE = "NEWSDESK_LIFELINE"
"""Variable of the environment: the inherited writing end and the FIFO's path, "7:/path"."""


def hold(environment: Mapping[str, str] = os.environ) -> None:
    """Have the kernel kill this process when its server ends. Nothing happens where no server has a lifeline."""
    descriptor, _, path = environment.get(VARIABLE, "").partition(":")
    if not path:
        return
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # stays open until the end
    fcntl.fcntl(reading, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(reading, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(reading, fcntl.F_SETFL, fcntl.fcntl(reading, fcntl.F_GETFL) | os.O_ASYNC)
    with contextlib.suppress(OSError):
        os.close(int(descriptor))  # its own copy; from here on only the server's counts

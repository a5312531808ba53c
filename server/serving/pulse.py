"""Whether a child answers: a process that lives and hangs is of no use."""

import threading

from newsdesk.server.serving import health

_PERIOD, _TIMEOUT = 0.5, 2.0
_MISSED = 4
"""Questions in a row without an answer that make it hung: ten seconds at most."""


class Pulse:
    """A thread that asks a child's health route for as long as it is wanted. Any answer is a sign of life."""

    def __init__(self, host: str, port: int, path: str, tls: bool = False) -> None:
        self._host, self._port, self._path, self._tls = host, port, path, tls
        self._missed, self.answered, self._over = 0, False, threading.Event()
        self._thread = threading.Thread(target=self._ask, name=f"pulse of {port}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether it has answered once, and no more for a while."""
        return self.answered and self._missed >= _MISSED

    def stop(self) -> None:
        """Ask no more."""
        self._over.set()

    def _ask(self) -> None:
        while not self._over.wait(_PERIOD):
            if health.ask(self._host, self._port, self._path, _TIMEOUT, self._tls):
                self._missed, self.answered = 0, True
            else:
                self._missed += 1

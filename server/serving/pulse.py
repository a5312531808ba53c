"""Whether a child answers: a process that lives and hangs is of no use."""

import http.client
import threading

_PERIOD, _TIMEOUT = 0.5, 2.0
_MISSED = 4
"""Questions in a row without an answer that make it hung: ten seconds at most."""


class Pulse:
    """A thread that asks a child's health route for as long as it is wanted. Any answer is a sign of life."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._host, self._port, self._path = host, port, path
        self._missed, self.answered, self._over = 0, False, threading.Event()
        self._thread = threading.Thread(target=self._ask, name=f"pulse of {port}", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether it has answered once, and no more for a while."""
        return self.answered and self._missed >= _MISSED

    def stop(self) -> None:
        self._over.set()

    def _ask(self) -> None:
        while not self._over.wait(_PERIOD):
            connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)
            try:
                connection.request("GET", self._path)
                connection.getresponse().read()
                self._missed, self.answered = 0, True
            except (OSError, http.client.HTTPException):
                self._missed += 1
            finally:
                connection.close()

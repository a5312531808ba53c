"""Real requests that the supervisor makes of a model, and which of those that fail are a fault."""

from collections.abc import Collection

from newsdesk.server.contract import PROBE
from newsdesk.server.machine.processes import Process
from newsdesk.server.serving.endpoint import Endpoint
from newsdesk.server.serving.triton import TritonError, TritonRefusal

EXAMPLE = PROBE
TIMEOUT = 3.0
OVERLOADED = 503
_COMPUTES = 0.02
"""The share of its time that a busy backend process computes at least, on a machine full of other work; one that hangs
computes nothing."""
_COMPUTING_SECONDS = 600.0
"""Seconds that all of them may compute without an answer: a whole batch of the longest texts takes minutes."""


class Probes:
    """The real requests of one model, and the faults that they showed."""

    def __init__(self) -> None:
        self._count = 0
        self._answered = -1
        self._computing = 0.0
        self.failed = 0
        """Faults in a row."""
        self.problem = ""

    def forget(self) -> None:
        """Begin anew, with fresh processes."""
        self.failed, self._answered, self._computing = 0, -1, 0.0

    def ask(self, model: Endpoint, stubs: Collection[Process]) -> None:
        """Make a request, and count it where it fails for another reason than much to do."""
        self._count += 1
        computed = {stub: stub.cpu_seconds for stub in stubs}
        try:
            model.infer(EXAMPLE + _mark(self._count), TIMEOUT)
            self.failed, self._computing = 0, 0.0
            return
        except TritonRefusal as error:
            if error.status == OVERLOADED:
                return
            self.problem = str(error)
        except TritonError as error:
            if model.stopped or self._busy(model) or self._compute(computed):
                return
            self.problem = str(error)
        self.failed += 1

    def _busy(self, model: Endpoint) -> bool:
        """Whether others were answered since the last look: then a late answer is a long queue, and no fault."""
        try:
            before, self._answered = self._answered, model.answered(TIMEOUT)
        except TritonError:
            return False
        if answered := 0 <= before < self._answered:
            self._computing = 0.0
        return answered

    def _compute(self, before: dict[Process, float]) -> bool:
        """Whether every backend process computed during the probe: on long texts then, and it is no fault."""
        if not before or any(stub.cpu_seconds - seconds < _COMPUTES * TIMEOUT for stub, seconds in before.items()):
            return False
        self._computing += TIMEOUT
        return self._computing <= _COMPUTING_SECONDS


def _mark(number: int) -> str:
    """Return white space, which no member reads, different for each number: no cache may answer for a backend."""
    return f"{number:b}".replace("0", " ").replace("1", "\t")

"""How far a consumer is, said on standard error."""

import json
import sys
import time
from dataclasses import asdict, dataclass


@dataclass
class Counts:
    """Texts, since the start: answered, written to the dead letters or answered with an error, and not yet answered."""

    answered: int = 0
    refused: int = 0
    unanswered: int = 0


class Report:
    """Says the counts, the rate and the lag every so often; as JSON, where programs read it."""

    def __init__(self, every: float, as_json: bool) -> None:
        self._every, self._as_json = every, as_json
        self._start = self._last = time.monotonic()
        self._before = 0

    @property
    def due(self) -> bool:
        """Whether it is time to say them."""
        return time.monotonic() - self._last >= self._every

    def say(self, counts: Counts, lag: int | None) -> None:
        """Say the rate since the last time."""
        now = time.monotonic()
        done = counts.answered + counts.refused
        rate = (done - self._before) / max(now - self._last, 0.001)
        self._last, self._before = now, done
        if self._as_json:
            _print(json.dumps({**asdict(counts), "per_second": round(rate, 1), "lag": lag}))
            return
        behind = "" if lag is None else f", {lag} not yet read"
        _print(
            f"newsdesk: {counts.answered} answered, {counts.refused} refused, {counts.unanswered} in flight{behind}, "
            f"{rate:.0f}/s"
        )


def warn(message: str) -> None:
    """Say what hinders, and ends by itself."""
    _print(f"newsdesk: warning: {message}")


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

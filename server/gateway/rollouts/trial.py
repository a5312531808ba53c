"""What was seen of a candidate beside the current version, and what the rule says to it."""

from collections import deque
from statistics import median

from newsdesk.server.rollouts import PROMOTE, WITHDRAW, Rule

_KEPT = 1000
"""Requests, and texts compared, that are judged: the last ones, so that a candidate that turns bad late is seen."""
_FEW = 8
"""Texts of a request whose time is compared. Parts of larger requests are of unlike sizes, and take unlike times."""
_NOISE_SECONDS = 0.001


class Seen:
    """The requests of one version."""

    def __init__(self) -> None:
        self.count = 0
        self._failed: deque[bool] = deque(maxlen=_KEPT)
        self._seconds: deque[float] = deque(maxlen=_KEPT)

    def note(self, texts: int, seconds: float, failed: bool) -> None:
        """Note a request of so many texts, the seconds that it took, and whether it failed."""
        self.count += 1
        self._failed.append(failed)
        if texts <= _FEW:
            self._seconds.append(seconds)

    @property
    def failed(self) -> float:
        """The share of the last requests that failed."""
        return sum(self._failed) / len(self._failed) if self._failed else 0.0

    @property
    def timed(self) -> int:
        """How many requests have a time that counts."""
        return len(self._seconds)

    @property
    def seconds(self) -> float:
        """The median time of the last small requests, in seconds."""
        return median(self._seconds) if self._seconds else 0.0


class Trial:
    """The comparison of a candidate with the current version."""

    def __init__(self, rule: Rule, compared: bool) -> None:
        """`compared` says whether the candidate is compared text by text, as a shadow is, or answers, as a canary."""
        self._rule, self._compared = rule, compared
        self.current, self.candidate = Seen(), Seen()
        self._disagreed: deque[bool] = deque(maxlen=_KEPT)
        self.texts_compared = 0

    def compare(self, agreed: bool) -> None:
        """Note a text that both answered."""
        self.texts_compared += 1
        self._disagreed.append(not agreed)

    @property
    def disagreement(self) -> float:
        """The share of the last texts that it gave another label."""
        return sum(self._disagreed) / len(self._disagreed) if self._disagreed else 0.0

    def verdict(self) -> tuple[str, str] | None:
        """Return PROMOTE or WITHDRAW, and why; None while the rule says neither."""
        rule, own, current = self._rule, self.candidate, self.current
        if own.count < rule.least:
            return None
        if own.failed > max(rule.errors, current.failed):
            return WITHDRAW, f"{own.failed:.1%} of its requests failed, {current.failed:.1%} of the current version's"
        if self._compared:
            if self.texts_compared >= rule.least and self.disagreement > rule.disagreement:
                return WITHDRAW, f"it gave {self.disagreement:.1%} of the texts another label"
        elif min(own.timed, current.timed) >= rule.least and self._slow(own.seconds, current.seconds):
            took = f"{own.seconds * 1e3:.1f} ms, {current.seconds * 1e3:.1f} ms of the current version's"
            return WITHDRAW, f"half of its requests took more than {took}"
        if rule.promote and own.count >= rule.promote and (not self._compared or self.texts_compared >= rule.least):
            return PROMOTE, f"it kept to the rule for {own.count} requests"
        return None

    def _slow(self, own: float, current: float) -> bool:
        return own > self._rule.latency * current + _NOISE_SECONDS

    def figures(self) -> dict[str, float]:
        """Return what was seen so far, by name: counts, shares, and medians in milliseconds."""
        return {
            "requests": self.candidate.count,
            "failed_share": round(self.candidate.failed, 4),
            "median_ms": round(self.candidate.seconds * 1e3, 2),
            "current_requests": self.current.count,
            "current_failed_share": round(self.current.failed, 4),
            "current_median_ms": round(self.current.seconds * 1e3, 2),
            "texts_compared": self.texts_compared,
            "disagreement_share": round(self.disagreement, 4),
        }

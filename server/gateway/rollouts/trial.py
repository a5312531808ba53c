"""Count how a candidate does beside the current version, and ask the rule about it."""

from collections import Counter, deque
from collections.abc import Iterable
from statistics import median

import numpy as np

from newsdesk.server.rollouts import PROMOTE, WITHDRAW, Candidate, Rule, TrialStatus
from newsdesk.server.runtime.stability import by_chance, stability_index

_KEPT = 1000
"""Requests, and texts compared, that are judged: the last ones, so that a candidate that turns bad late is seen."""
_FEW = 8
"""Texts of a request whose time is compared. Parts of larger requests are of unlike sizes, and take unlike times."""
_NOISE_SECONDS = 0.001


class Tally:
    """The requests of one version."""

    def __init__(self) -> None:
        self.count = 0
        self._failed: deque[bool] = deque(maxlen=_KEPT)
        self._seconds: deque[float] = deque(maxlen=_KEPT)
        self._labels: dict[int, str] = {}

    def note(self, texts: int, seconds: float, failed: bool) -> None:
        """Note a request of so many texts, the seconds that it took, and whether it failed."""
        self.count += 1
        self._failed.append(failed)
        if texts <= _FEW:
            self._seconds.append(seconds)

    def labelled(self, answers: Iterable[tuple[str | bytes, str]]) -> None:
        """Note the labels of texts. A text counts once: one that many ask for is always the same version's."""
        for text, label in answers:
            self._labels.pop(place := hash(text), None)
            self._labels[place] = label
        while len(self._labels) > _KEPT:
            del self._labels[next(iter(self._labels))]

    @property
    def labels(self) -> Counter[str]:
        """The labels of the last texts."""
        return Counter(self._labels.values())

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
        self.current, self.candidate = Tally(), Tally()
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

    def drift(self) -> tuple[float, float]:
        """Return the stability index of the labels' shares, and what chance alone stays below; zeros before enough."""
        own, current = self.candidate.labels, self.current.labels
        if min(own.total(), current.total()) < self._rule.least:
            return 0.0, 0.0
        labels = sorted(own | current)
        shares = [np.array([tally[label] / tally.total() for label in labels]) for tally in (own, current)]
        return stability_index(*shares), by_chance(len(labels), own.total(), current.total())

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
        index, chance = (0.0, 0.0) if self._compared else self.drift()
        if index > max(rule.drift, chance):
            return WITHDRAW, f"its labels are spread unlike the current version's, by an index of {index:.2f}"
        if rule.promote and own.count >= rule.promote and (not self._compared or self.texts_compared >= rule.least):
            return PROMOTE, f"it kept to the rule for {own.count} requests"
        return None

    def _slow(self, own: float, current: float) -> bool:
        return own > self._rule.latency * current + _NOISE_SECONDS

    def status(self, candidate: Candidate, current: str, state: str) -> TrialStatus:
        """Return how it goes.

        Args:
            candidate: that is tried
            current: the version that it is tried beside
            state: what became of it
        """
        return TrialStatus(
            model=candidate.model,
            version=candidate.version,
            kind=candidate.kind,
            share=candidate.share,
            current=current,
            state=state,
            requests=self.candidate.count,
            failed_share=round(self.candidate.failed, 4),
            median_ms=round(self.candidate.seconds * 1e3, 2),
            current_requests=self.current.count,
            current_failed_share=round(self.current.failed, 4),
            current_median_ms=round(self.current.seconds * 1e3, 2),
            texts_compared=self.texts_compared,
            disagreement_share=round(self.disagreement, 4),
            drift_index=round(self.drift()[0], 4),
        )

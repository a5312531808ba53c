"""The gateway's counts: for Prometheus, and for those who watch it live."""

import time
from collections import Counter as Counts
from collections import deque
from functools import lru_cache, partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_KEPT = 4096
_WINDOW_SECONDS = 10.0
_LABELS_KEPT = 1024


class Telemetry:
    """The counts of a gateway."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=self._registry), partial(Gauge, registry=self._registry)
        histogram = partial(Histogram, registry=self._registry, buckets=_BUCKETS)
        self._requests = counter("newsdesk_gateway_requests", "Requests answered", ["route", "status", "model"])
        self._seconds = histogram(
            "newsdesk_gateway_request_seconds",
            "Time from a request's head to the end of its answer",
            ["route", "model"],
        )
        self._texts = counter("newsdesk_gateway_texts", "Texts, by what became of them", ["outcome", "model"])
        self.queued = gauge("newsdesk_gateway_queued_texts", "Texts on their way to the model", ["model"])
        self.ready = gauge("newsdesk_gateway_ready", "1 when the model answered lately", ["model"])
        self.open = gauge("newsdesk_gateway_breaker_open", "1 when requests are turned away unasked", ["model"])
        self.hedged = counter("newsdesk_gateway_hedged_texts", "Texts asked for again", ["model"])
        self._of_version = counter(
            "newsdesk_gateway_version_requests",
            "Requests of a roll-out, by version and by what became of them",
            ["model", "version", "role", "outcome"],
        )
        self._seconds_of_version = histogram(
            "newsdesk_gateway_version_request_seconds",
            "Time of the requests of a roll-out that a version answered",
            ["model", "version", "role"],
        )
        self._shadowed = counter(
            "newsdesk_gateway_shadow_texts",
            "Texts for a shadow: agreed, disagreed, dropped or failed",
            ["model", "version", "outcome"],
        )
        self._trial = gauge(
            "newsdesk_gateway_trial_share",
            "Share of the texts that a candidate answers; 0 for a shadow, and where it is not asked",
            ["model", "version"],
        )
        # Finding a label's count takes longer than counting.
        keep = lru_cache(_LABELS_KEPT)
        self._request_counts, self._request_seconds = keep(self._requests.labels), keep(self._seconds.labels)
        self._text_counts = keep(self._texts.labels)
        self._recent: deque[tuple[float, float, str]] = deque(maxlen=_KEPT)
        self._counted: Counts[tuple[str, str]] = Counts()

    def request(self, route: str, status: int, seconds: float, timed: bool, model: str = "") -> None:
        """Count a request, for a model where it is for one.

        Args:
            route: of the request
            status: of the answer
            seconds: that it took
            timed: whether the time is the model's, not the caller's
            model: its name, or ""
        """
        self._request_counts(route, str(status), model).inc()
        self._counted[model, "requests"] += 1
        self._counted[model, "errors"] += status >= 500
        if timed:
            self._request_seconds(route, model).observe(seconds)
            self._recent.append((time.monotonic(), seconds, model))

    def texts(self, model: str, answered: int, refused: int) -> None:
        """Count texts of a model that were answered and refused."""
        self._text_counts("answered", model).inc(answered)
        self._counted[model, "texts"] += answered
        if refused:
            self._text_counts("refused", model).inc(refused)
            self._counted[model, "refused"] += refused

    def version(self, model: str, version: str, role: str, outcome: str, seconds: float) -> None:
        """Count a request, or a part of one, to a version while a candidate is tried.

        Args:
            model: its name
            version: its number
            role: "current", "canary" or "shadow"
            outcome: "answered", or what came of it instead
            seconds: that it took
        """
        self._of_version.labels(model, version, role, outcome).inc()
        if outcome == "answered":
            self._seconds_of_version.labels(model, version, role).observe(seconds)

    def shadowed(self, model: str, version: str, outcome: str, texts: int = 1) -> None:
        """Count texts for a shadow: "agreed", "disagreed", "dropped" or "failed"."""
        self._shadowed.labels(model, version, outcome).inc(texts)

    def trial(self, model: str, version: str, share: float) -> None:
        """Note the share of the texts that a candidate answers at present."""
        self._trial.labels(model, version).set(share)

    def exposition(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry)

    def totals(self, model: str = "") -> dict[str, int]:
        """Return the counts of a model, or of all requests."""
        totals = dict.fromkeys(("requests", "errors", "texts", "refused"), 0)
        for (counted, what), number in self._counted.items():
            totals[what] += number if model in ("", counted) else 0
        return totals

    def latency(self, model: str = "") -> dict[str, float | None]:
        """Return the median and 99th percentile of the last ten seconds, in milliseconds; None without requests.

        Args:
            model: of which; empty: of all
        """
        since = time.monotonic() - _WINDOW_SECONDS
        seconds = sorted(taken for at, taken, of in self._recent if at >= since and model in ("", of))
        marks = {"p50_ms": 0.50, "p99_ms": 0.99}
        return {
            name: round(1e3 * seconds[min(int(share * len(seconds)), len(seconds) - 1)], 2) if seconds else None
            for name, share in marks.items()
        }


def rates(before: dict[str, int], after: dict[str, int], seconds: float) -> dict[str, float]:
    """Return how fast each total grew, a second, between two looks `seconds` apart."""
    return {f"{name}_per_second": round((after[name] - before[name]) / seconds, 1) for name in after}

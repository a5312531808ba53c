"""What the gateway counts: for Prometheus, and for those who watch it live."""

import time
from collections import deque
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_KEPT = 4096
_WINDOW_SECONDS = 10.0


class Telemetry:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "newsdesk_gateway_requests", "Requests answered", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "newsdesk_gateway_request_seconds",
            "Time from a request's head to the end of its answer",
            ["route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._texts = Counter(
            "newsdesk_gateway_texts", "Texts, by what became of them", ["outcome"], registry=self._registry
        )
        self.queued = Gauge("newsdesk_gateway_queued_texts", "Texts on their way to the model", registry=self._registry)
        self.ready = Gauge("newsdesk_gateway_ready", "1 when the model answered lately", registry=self._registry)
        self.open = Gauge(
            "newsdesk_gateway_breaker_open", "1 when requests are turned away unasked", registry=self._registry
        )
        self.hedged = Counter("newsdesk_gateway_hedged_texts", "Texts asked for again", registry=self._registry)
        self._recent: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        self._totals = {"requests": 0, "errors": 0, "texts": 0, "refused": 0}

    def request(self, route: str, status: int, seconds: float, timed: bool) -> None:
        """Count a request; `timed` ones are those whose time is the model's, not the caller's."""
        self._requests.labels(route, str(status)).inc()
        self._totals["requests"] += 1
        self._totals["errors"] += status >= 500
        if timed:
            self._seconds.labels(route).observe(seconds)
            self._recent.append((time.monotonic(), seconds))

    def texts(self, answered: int, refused: int) -> None:
        self._texts.labels("answered").inc(answered)
        self._totals["texts"] += answered
        if refused:
            self._texts.labels("refused").inc(refused)
            self._totals["refused"] += refused

    def exposition(self) -> bytes:
        """Return everything in Prometheus's text format."""
        return generate_latest(self._registry)

    def totals(self) -> dict[str, int]:
        return dict(self._totals)

    def latency(self) -> dict[str, float | None]:
        """Return the median and 99th percentile of the last ten seconds, in milliseconds; None without requests."""
        since = time.monotonic() - _WINDOW_SECONDS
        seconds = sorted(taken for at, taken in self._recent if at >= since)
        marks = {"p50_ms": 0.50, "p99_ms": 0.99}
        return {
            name: round(1e3 * seconds[min(int(share * len(seconds)), len(seconds) - 1)], 2) if seconds else None
            for name, share in marks.items()
        }


def rates(before: dict[str, int], after: dict[str, int], seconds: float) -> dict[str, Any]:
    """Return how fast each total grew."""
    return {f"{name}_per_second": round((after[name] - before[name]) / seconds, 1) for name in after}

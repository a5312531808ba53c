"""The service-level objective: what a run must keep to, and its figures."""

from dataclasses import dataclass

QUANTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}


@dataclass(frozen=True)
class Figures:
    """The figures of a run; times are in milliseconds, those of an open profile from when a request was due."""

    requests: int
    failures: int
    per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Objective:
    """`failures` is the largest share of requests that may fail or be answered wrongly."""

    p99_ms: float
    failures: float

    def broken(self, figures: Figures) -> list[str]:
        """Return what was not kept, in words."""
        if not figures.requests:
            return ["no request was answered"]
        broken = []
        share = figures.failures / figures.requests
        if share > self.failures:
            broken.append(
                f"{figures.failures} of {figures.requests} requests failed ({share:.2%}); at most "
                f"{self.failures:.2%} may"
            )
        if figures.p99_ms > self.p99_ms:
            broken.append(f"p99 is {figures.p99_ms:.0f} ms; at most {self.p99_ms:.0f} ms may it be")
        return broken

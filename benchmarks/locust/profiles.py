"""Load over time, for Locust's shapes. Nothing here imports Locust, which patches the process it is in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Stage:
    """The share of the run's time that is over when it ends, and the share of the users that are there in it."""

    until: float
    users: float


@dataclass(frozen=True)
class Profile:
    """`pace` is the requests a second that each user keeps to; None: the next one as soon as the last is answered."""

    about: str
    stages: tuple[Stage, ...]
    pace: float | None = None
    open: bool = False
    """Requests come at a rate of their own, whether those before are answered or not."""

    def users(self, second: float, most: int, seconds: float) -> int | None:
        """Return how many users there are in that second of a run with `most` users; None when the run is over."""
        for stage in self.stages:
            if second < stage.until * seconds:
                return 1 if self.open else max(1, round(stage.users * most))
        return None


PROFILES = {
    "steady": Profile("all users at once, each asks again as soon as it is answered", (Stage(1, 1),)),
    "spike": Profile(
        "a tenth of the users, then all of them for a fifth of the time, then a tenth; one request a second each",
        (Stage(0.4, 0.1), Stage(0.6, 1), Stage(1, 0.1)),
        pace=1,
    ),
    "soak": Profile(
        "half of the users for a tenth of the time, then all; one request a second each",
        (Stage(0.1, 0.5), Stage(1, 1)),
        pace=1,
    ),
    "open": Profile("requests arrive at random at a given rate, whatever becomes of them", (Stage(1, 1),), open=True),
}


def arrivals(rate: float, chance: Random, clock: Callable[[], float]) -> Iterator[float]:
    """Yield the times of a Poisson process of `rate` a second, from now on: exponential gaps, whoever is late."""
    due = clock()
    while True:
        due += chance.expovariate(rate)
        yield due

"""The part that both locustfiles share: options, the load's shape, users that ask, and the objective as exit code."""

import json
import random
import time
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

from gevent.pool import Group
from locust import LoadTestShape, User, constant_throughput, events, task

from benchmarks import texts
from benchmarks.locust.objective import QUANTILES, Figures, Objective
from benchmarks.locust.profiles import PROFILES, arrivals

MOST_FLYING = 2000
"""Requests of an open profile that may be under way; a further one fails unsent."""
_LAST_SECONDS = 30


@events.init_command_line_parser.add_listener
def _options(parser: Any) -> None:
    group = parser.add_argument_group("newsdesk")
    group.add_argument("--load-profile", choices=PROFILES, default="steady")
    group.add_argument("--rate", type=float, default=50, help="requests a second of the open profile")
    group.add_argument("--pace", type=float, help="most requests a second of a user; 0: no pause; else the profile's")
    group.add_argument("--texts", type=Path, help="CSV with title and description or text, or a line an article")
    group.add_argument("--p99-ms", type=float, default=2000, help="objective: milliseconds")
    group.add_argument("--most-failures", type=float, default=0, help="objective: share of the requests")
    group.add_argument("--figures", type=Path, help="write the figures there as JSON")


@events.test_start.add_listener
def _start(environment: Any, **_: Any) -> None:
    articles = texts.choose(environment.parsed_options.texts)
    random.Random(7).shuffle(articles)
    environment.articles = cycle(articles)


@events.quitting.add_listener
def _judge(environment: Any, **_: Any) -> None:
    options, total = environment.parsed_options, environment.stats.total
    quantiles = {name: float(total.get_response_time_percentile(share)) for name, share in QUANTILES.items()}
    figures = Figures(
        total.num_requests, total.num_failures, total.total_rps, max_ms=float(total.max_response_time), **quantiles
    )
    broken = Objective(options.p99_ms, options.most_failures).broken(figures)
    for shortfall in broken:
        print(f"The objective is not kept: {shortfall}.")
    environment.process_exit_code = int(bool(broken))
    if options.figures:
        options.figures.write_text(json.dumps(asdict(figures)))


class Shape(LoadTestShape):
    """The profile, over Locust's own --users and --run-time."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        most, seconds = options.num_users or 1, options.run_time or 60
        users = PROFILES[options.load_profile].users(self.get_run_time(), most, seconds)
        return None if users is None else (users, max(1, most))  # all of them within a second


class Asking(User):
    """A user of whatever protocol: `ask` sends one text and fires Locust's request event, with the time since `due`."""

    abstract = True

    def on_start(self) -> None:
        options = self.environment.parsed_options
        profile = PROFILES[options.load_profile]
        pace = profile.pace if options.pace is None else options.pace
        self._open, self._flying = profile.open, Group()
        self._due, self._next = time.perf_counter(), arrivals(options.rate, random.Random(), time.perf_counter)
        self._pause = constant_throughput(pace) if pace else lambda _: 0

    def on_stop(self) -> None:
        self._flying.join(_LAST_SECONDS)

    def wait_time(self) -> float:
        """Seconds until the next request."""
        if not self._open:
            return self._pause(self)
        self._due = next(self._next)
        return max(0, self._due - time.perf_counter())

    @task
    def send(self) -> None:
        text = next(self.environment.articles)
        if not self._open:
            self.ask(text, time.perf_counter())
        elif len(self._flying) < MOST_FLYING:
            self._flying.spawn(self.ask, text, self._due)
        else:
            self.tell(self._due, RuntimeError(f"not sent: {MOST_FLYING} requests are under way"))

    def tell(self, due: float, problem: Exception | None) -> None:
        """Count a request that has ended."""
        self.environment.events.request.fire(
            request_type=type(self).__name__,
            name="classify",
            response_time=(time.perf_counter() - due) * 1e3,
            response_length=0,
            exception=problem,
            context={},
        )

    def ask(self, text: str, due: float) -> None:
        raise NotImplementedError

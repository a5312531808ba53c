"""A simulation of replicas behind a client that balances: queues, dynamic batches, and an autoscaler's delay.

A replica is a tritonserver: its idle backend processes take what waits, up to a batch, and a batch takes
`fixed + per_text · texts` seconds. Callers do not wait for each other (Poisson arrivals of single texts), and each text
goes to the replica with the fewest in flight, as `newsdesk.clients.pool` sends it.
"""

import math
import random
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy

Steps = Generator[Any, Any, None]


@dataclass(frozen=True)
class Service:
    """Times in seconds. A replica has `instances` backend processes, and a batch at most `most` texts."""

    fixed: float
    per_text: float
    instances: int = 2
    most: int = 8

    def seconds(self, texts: int) -> float:
        return self.fixed + self.per_text * texts

    @property
    def capacity(self) -> float:
        """Texts a second that one replica answers at most."""
        return self.instances * self.most / self.seconds(self.most)


@dataclass(frozen=True)
class Scaler:
    """A HorizontalPodAutoscaler on the mean of texts in flight, as docker/kubernetes/base/autoscaler.yaml sets it.

    target         texts in flight a replica that it aims at
    least, most    replicas
    start_seconds  from when a replica is wanted until it is ready
    tick           seconds between two looks, and tolerance, the share off the target that it lets be
    period         seconds in which it doubles the replicas at most, or takes one away
    shrink_seconds during which no look may have wanted more
    """

    target: float = 64
    least: int = 1
    most: int = 10
    start_seconds: float = 60
    tick: float = 15
    tolerance: float = 0.1
    period: float = 60
    shrink_seconds: float = 300


@dataclass(frozen=True)
class Outcome:
    """A run: when each text came and how long it took, both in seconds, and the replicas over time."""

    came: np.ndarray
    took: np.ndarray
    replicas: Sequence[tuple[float, int]]

    def quantile(self, share: float, since: float = 0.0, until: float = math.inf) -> float:
        """Return a quantile of the times of texts that came in between."""
        return float(np.quantile(self.took[(self.came >= since) & (self.came < until)], share))


class _Replica:
    def __init__(self, world: simpy.Environment, service: Service, times: list[tuple[float, float]]) -> None:
        self._world, self._service, self._times = world, service, times
        self._waiting: deque[float] = deque()
        self._idle: list[simpy.Event] = []
        self.flying = 0
        for _ in range(service.instances):
            world.process(self._serve())

    def take(self) -> None:
        """Take a text that comes now."""
        self.flying += 1
        self._waiting.append(self._world.now)
        if self._idle:
            self._idle.pop().succeed()

    def _serve(self) -> Steps:
        while True:
            while not self._waiting:
                self._idle.append(woken := self._world.event())
                yield woken
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._service.most))]
            yield self._world.timeout(self._service.seconds(len(batch)))
            self.flying -= len(batch)
            self._times += [(came, self._world.now - came) for came in batch]


class _Fleet:
    def __init__(self, service: Service, replicas: int, scaler: Scaler | None, seed: int) -> None:
        self.world = simpy.Environment()
        self._service = service
        self._gaps, self._ties = random.Random(seed), random.Random(seed + 1)  # the load is one, whoever answers
        self.times: list[tuple[float, float]] = []
        self._ready = [_Replica(self.world, service, self.times) for _ in range(replicas)]
        self._wanted = replicas
        self._grown = self._shrunk = -math.inf
        self._wishes: deque[tuple[float, int]] = deque()
        self.sizes = [(0.0, replicas)]
        if scaler:
            self.world.process(self._scale(scaler))

    def arrive(self, profile: Sequence[tuple[float, float]]) -> Steps:
        for seconds, rate in profile:
            end = self.world.now + seconds
            while (gap := self._gaps.expovariate(rate)) < end - self.world.now:
                yield self.world.timeout(gap)
                self._least_loaded().take()
            yield self.world.timeout(end - self.world.now)

    def _least_loaded(self) -> _Replica:
        fewest = min(replica.flying for replica in self._ready)
        return self._ties.choice([replica for replica in self._ready if replica.flying == fewest])

    def _scale(self, scaler: Scaler) -> Steps:
        while True:
            yield self.world.timeout(scaler.tick)
            load = sum(replica.flying for replica in self._ready) / len(self._ready) / scaler.target
            wish = self._wanted if abs(load - 1) <= scaler.tolerance else math.ceil(len(self._ready) * load)
            wish = min(max(wish, scaler.least), scaler.most)
            self._wishes.append((self.world.now, wish))
            while self._wishes[0][0] < self.world.now - scaler.shrink_seconds:
                self._wishes.popleft()
            if wish > self._wanted and self.world.now - self._grown >= scaler.period:
                more = min(wish, 2 * self._wanted) - self._wanted
                self._wanted, self._grown = self._wanted + more, self.world.now
                for _ in range(more):
                    self.world.process(self._start(scaler))
            elif self._shrinks(scaler):
                self._wanted, self._shrunk = self._wanted - 1, self.world.now
                self._ready.pop()  # it finishes what it has
                self.sizes.append((self.world.now, len(self._ready)))

    def _shrinks(self, scaler: Scaler) -> bool:
        enough = max(wish for _, wish in self._wishes) < self._wanted == len(self._ready)
        return enough and self.world.now - max(self._shrunk, 0.0) >= scaler.period

    def _start(self, scaler: Scaler) -> Steps:
        yield self.world.timeout(scaler.start_seconds)
        self._ready.append(_Replica(self.world, self._service, self.times))
        self.sizes.append((self.world.now, len(self._ready)))


def simulate(
    service: Service,
    replicas: int,
    profile: Sequence[tuple[float, float]],
    scaler: Scaler | None = None,
    seed: int = 7,
) -> Outcome:
    """Return what becomes of a load of (seconds, texts a second), one after another, and of nothing behind it."""
    fleet = _Fleet(service, replicas, scaler, seed)
    fleet.world.process(fleet.arrive(profile))
    # Long enough for what is left in the queues.
    fleet.world.run(sum(seconds for seconds, _ in profile) + 600)
    came, took = np.array(fleet.times).reshape(-1, 2).T
    return Outcome(came, took, fleet.sizes)


def replicas_for(service: Service, rate: float, p99: float, seconds: float = 30, most: int = 100) -> int:
    """Return the fewest replicas that keep a steady load's p99, in seconds. Raises ValueError where no number does."""
    if service.seconds(1) > p99:
        raise ValueError(f"one text takes {service.seconds(1):.3f} s by itself, more than the p99 of {p99} s")
    for replicas in range(max(1, math.ceil(rate / service.capacity)), most + 1):
        if simulate(service, replicas, [(seconds, rate)]).quantile(0.99) <= p99:
            return replicas
    raise ValueError(f"{most} replicas of {service.capacity:.0f} texts/s keep no p99 of {p99} s at {rate} texts/s")

"""The models behind the gateway. Each has a queue, a breaker and suspects of its own: none waits for another."""

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from starlette.requests import HTTPConnection

from newsdesk.server.gateway.breaker import Breaker
from newsdesk.server.gateway.plane import Plane
from newsdesk.server.gateway.problems import Malformed, NotFound, Unavailable
from newsdesk.server.gateway.rollouts.rollout import Rollout
from newsdesk.server.gateway.settings import Launch
from newsdesk.server.gateway.telemetry import Telemetry
from newsdesk.server.gateway.triton import TritonHttp
from newsdesk.server.gateway.upstream import Upstream
from newsdesk.server.machine import servers

if TYPE_CHECKING:
    from newsdesk.server.gateway.tracing import Tracing


@dataclass(frozen=True)
class Model:
    """One model, with the ways to ask it."""

    name: str
    plane: Plane
    triton: TritonHttp

    @property
    def rollout(self) -> Rollout | None:
        """The version that is tried beside the current one."""
        return self.plane.rollout


class Models:
    """The models that are served, by name, for one event loop."""

    def __init__(
        self, launch: Launch, telemetry: Telemetry, session: aiohttp.ClientSession, tracing: "Tracing | None"
    ) -> None:
        self.default, self._run = launch.default, launch.run
        self.upstream = Upstream(launch.grpc_url)
        """Triton's gRPC side, over which requests of either protocol are passed on."""
        self._served = {name: _open(launch, name, telemetry, session, tracing) for name in launch.models}

    def __iter__(self) -> Iterator[Model]:
        return iter(self._served.values())

    def __contains__(self, name: str) -> bool:
        return name in self._served

    def __len__(self) -> int:
        return len(self._served)

    def of(self, name: str = "") -> Model:
        """Return the model of a name, without one the default.

        Raises:
            NotFound: there is no such model.
            Malformed: no model is named, and none is the default.
        """
        if not name and not self.default:
            raise Malformed(
                f"No model is named, and {len(self)} are served: {self.names}. Name one: /v1/models/<model>/classify, "
                "or `model`."
            )
        if (model := self._served.get(name or self.default)) is None:
            raise NotFound(f"There is no model {name!r:.80}, served are: {self.names}.")
        return model

    def check_ready(self, only: str = "") -> list[Model]:
        """Return the models that are in service, or `only` one of them: all have answered lately.

        Raises:
            Unavailable: one has not; the message is what its server last said of it.
        """
        asked = [self.of(only)] if only else list(self)
        late = [model for model in asked if not model.plane.ready]
        if not late:
            return asked
        served = servers.read_served(self._run)
        failed = [model for model in late if not (model.name in served and served[model.name].unloaded)]
        if failed or len(late) == len(asked):
            first = (failed or late)[0].name
            reason = (first in served and served[first].unready) or "it is being started or healed"
            name = f" {first}" if len(self) > 1 else ""
            raise Unavailable(f"The model{name} has not answered a real request lately: {reason}.")
        return [model for model in asked if model not in late]

    @property
    def any(self) -> Model:
        """A model that is asked at present, where it does not matter which."""
        return next((model for model in self if not model.plane.breaks), next(iter(self)))

    @property
    def names(self) -> str:
        """The names of all, joined by commas."""
        return ", ".join(self._served)

    def watch(self) -> list[asyncio.Task[None]]:
        """Start what watches each model for ever."""
        return [
            asyncio.create_task(watching)
            for model in self
            for watching in (model.plane.probe(), model.triton.suspects.watch(), *_trial(model))
        ]

    async def close(self) -> None:
        """Close the connections of all."""
        for model in self:
            await model.plane.close()
            if model.rollout:
                await model.rollout.close()
        await self.upstream.close()


def _open(
    launch: Launch, name: str, telemetry: Telemetry, session: aiohttp.ClientSession, tracing: "Tracing | None"
) -> Model:
    breaker = Breaker()
    triton = TritonHttp(launch, session, breaker, name)
    plane = Plane(launch, name, telemetry, breaker, triton.suspects, tracing)
    for candidate in launch.candidates:
        if candidate.model == name:
            plane.rollout = Rollout(launch, candidate, telemetry, lambda: plane.queued)
    return Model(name, plane, triton)


def _trial(model: Model) -> Iterator[Coroutine[Any, Any, None]]:
    """Yield what watches the version that is tried, for ever."""
    if model.rollout:
        yield model.rollout.watch()
        if model.rollout.shadow:
            yield model.rollout.shadow.run()


def of(connection: HTTPConnection, name: str = "") -> Model:
    """Return the model that a request is for, and note it for metrics and log.

    Raises:
        NotFound: there is no such model.
        Malformed: no model is named, and none is the default.
    """
    models: Models = connection.app.state.models
    model = models.of(name)
    connection.state.model = model.name
    return model

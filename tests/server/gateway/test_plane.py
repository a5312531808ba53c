"""The data plane before a model of our own making: time limits, and what is asked twice."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from newsdesk.clients import BadResponse, Prediction
from newsdesk.server.gateway.breaker import Breaker
from newsdesk.server.gateway.plane import CallOptions, Plane
from newsdesk.server.gateway.suspects import Suspects
from newsdesk.server.gateway.telemetry import Telemetry
from tests.server.gateway import gateways

ANSWER = Prediction(0, "Business", 1.0, {"Business": 1.0}, "tiny", 1)


class FailingModel:
    """Stands where the plane's client stands: fails as often as it is told, then answers; keeps the time limits."""

    def __init__(self, failures: int, seconds: float) -> None:
        self._failures, self._seconds = failures, seconds
        self.limits: list[float] = []

    async def classify(self, texts: Any, **wanted: Any) -> Any:
        self.limits.append(wanted["timeout"])
        await asyncio.sleep(self._seconds)
        if len(self.limits) <= self._failures:
            raise BadResponse("other labels")
        return ANSWER if isinstance(texts, str | bytes) else [ANSWER] * len(texts)

    async def close(self) -> None:
        pass


async def counts() -> tuple[int, int]:
    return 0, 0


def run(model: FailingModel, folder: Path, use: Callable[[Plane], Awaitable[Any]], **settings: Any) -> Any:
    """Run `use` with a plane that asks the model."""

    async def using() -> Any:
        plane = Plane(gateways.launch(folder, **settings), "ag_news", Telemetry(), Breaker(), Suspects(counts))
        await plane._client.close()
        plane._client = model  # type: ignore[assignment]
        try:
            return await use(plane)
        finally:
            await plane.close()

    return asyncio.run(using())


@pytest.mark.parametrize("texts", [["one"], ["one", "two"]])
def test_a_repeat_gets_only_the_time_that_is_left(texts: list[str], tmp_path: Path) -> None:
    """The first answer took 0.3 of 20 seconds, and was of labels that a reload had changed."""
    model = FailingModel(failures=1, seconds=0.3)
    items = run(model, tmp_path, lambda plane: plane.classify(texts, CallOptions()), request_timeout=20)
    assert [item.label for item in items] == ["Business"] * len(texts)
    first, second = model.limits
    assert 19 < first <= 20
    assert second <= first - 0.3


def test_a_second_failure_is_not_asked_about_again(tmp_path: Path) -> None:
    model = FailingModel(failures=2, seconds=0.0)
    with pytest.raises(BadResponse):
        run(model, tmp_path, lambda plane: plane.classify(["one"], CallOptions()))
    assert len(model.limits) == 2


def test_a_repeat_whose_time_is_over_gets_an_instant(tmp_path: Path) -> None:
    model = FailingModel(failures=1, seconds=0.2)
    run(model, tmp_path, lambda plane: plane.classify(["one"], CallOptions()), request_timeout=0.1)
    assert model.limits[1] == 0.001

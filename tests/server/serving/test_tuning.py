from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from newsdesk.server.serving import load, prepare, tuning
from newsdesk.server.serving.load import LoadReading
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.tuning import Point, Setup, TuningError, applied, candidates, choose, tune
from tests.launching import Server, write_repository


def reading(clients: int, per_second: float, p50_ms: float) -> LoadReading:
    return LoadReading(clients, 100, 0, per_second, p50_ms, 2 * p50_ms)


def point(instances: int, threads: int, delay: int, per_second: float, p50_ms: float) -> Point:
    return Point(Setup(instances, threads, delay), reading(1, 10, p50_ms), reading(64, per_second, 90))


def test_the_cores_are_spent_in_every_way() -> None:
    assert candidates(1) == [Setup(1, 1, 0), Setup(2, 1, 0)]
    assert {(setup.instances, setup.threads) for setup in candidates(4)} == {(4, 1), (2, 2), (1, 4), (5, 1), (1, 1)}


def test_throughput_decides_and_among_near_equals_the_single_client() -> None:
    curve = [point(2, 1, 0, 700, 4), point(1, 2, 0, 690, 3), point(1, 1, 0, 400, 1)]
    assert choose(curve) == Setup(1, 2, 0)
    assert choose([point(2, 1, 0, 700, 4), point(1, 2, 0, 600, 3)]) == Setup(2, 1, 0)
    assert choose([Point(Setup(9, 1, 0), refused="did not start"), *curve]) == Setup(1, 2, 0)
    with pytest.raises(TuningError, match="no set-up could be measured: did not start"):
        choose([Point(Setup(9, 1, 0), refused="did not start")])


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    preparation = prepare.Preparation({"stand-in": "openvino:int8"}, [], "a processor", {}, "")
    monkeypatch.setattr(prepare, "prepare", lambda *_, **__: preparation)


@pytest.mark.usefixtures("prepared")
def test_what_was_found_is_used_where_the_settings_leave_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(model_repository=write_repository(tmp_path / "models"), state=tmp_path / "state")
    assert applied(settings, "ag_news") == settings
    asked: list[Setup] = []

    @contextmanager
    def served(settings: Settings, model: str, target: str, setup: Setup) -> Iterator[int]:
        asked.append(setup)
        if setup.instances == 1:
            raise RuntimeError("did not start")
        yield setup.queue_delay

    def run(host: str, port: int, requests: list[bytes], clients: int, *_: float, **__: float) -> LoadReading:
        return reading(clients, 800 if port == 500 else 500, 4)

    monkeypatch.setattr(tuning, "_server", served)
    monkeypatch.setattr(load, "run", run)
    monkeypatch.setattr(tuning, "granted_cores", lambda: 2)
    tuned = tune(settings, "ag_news", ["a text", "another text here"], 1, lambda _: None)
    assert tuned.best == Setup(2, 1, 500)
    assert (tuned.texts, tuned.mean_words) == (2, 2.5)
    assert [point.setup for point in tuned.curve] == asked
    assert {point.refused for point in tuned.curve} == {"", "did not start"}
    used = applied(settings, "ag_news")
    assert (used.instances, used.threads, used.queue_delay, used.target) == (2, 1, 500, "openvino:int8")
    mine = Settings(model_repository=settings.model_repository, state=settings.state, threads=3, queue_delay=0)
    own = applied(mine, "ag_news")
    assert (own.instances, own.threads, own.queue_delay) == (0, 3, 0)
    (record,) = (settings.state / "tuned").iterdir()
    record.write_text(record.read_text().replace('"openvino:int8"', '"openvino:int4"'))
    assert applied(settings, "ag_news") == settings  # a target that is gone


@pytest.mark.usefixtures("prepared")
def test_a_set_up_is_measured_through_the_real_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launch: Callable[..., Server]
) -> None:
    settings = Settings(model_repository=write_repository(tmp_path / "models"), state=tmp_path / "state")
    measured = tuning._measure(settings, "ag_news", "openvino:int8", Setup(2, 1, 700), ["a text"], 0.3)
    assert measured.refused == ""
    assert measured.alone is not None
    assert measured.alone.failures == 0
    assert measured.many is not None
    assert measured.many.per_second > measured.many.clients
    refused = tuning._measure(settings, "ag_news", "openvino:int9", Setup(2, 1, 0), ["a text"], 0.3)
    assert refused.alone is refused.many is None
    assert "did not start" in refused.refused
    assert "openvino:int9" in refused.refused
    server = launch(
        settings.model_repository,
        options=["--target", "openvino:int8", "--instances", "2", "--no-gateway", "--queue-delay", "700"],
    )
    server.until("Ctrl-C stops it")
    _, config = server.ask("/v2/models/ag_news/config")
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 700

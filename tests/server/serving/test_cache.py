"""Triton's response cache, on the real server: the same answers, hits counted, and none for what has changed."""

import re
import signal
import urllib.request
from collections.abc import Iterator

import msgspec
import pytest

from newsdesk.server.runtime import manifest
from newsdesk.server.serving.probes import _mark
from tests.holding import until
from tests.launching import MODEL, OPTIONS, Server, write_repository
from tests.server.serving.test_versions import add


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = write_repository(tmp_path_factory.mktemp("models"))
    server = Server(repository, tmp_path_factory.mktemp("cache") / "state", [*OPTIONS, "--cache", "16MB"]).start()
    server.until("Ctrl-C stops it")
    yield server
    server.dismiss()


def lookups(server: Server) -> tuple[int, int]:
    """Return hits and misses."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports[2]}/metrics", timeout=10) as response:
        metrics = response.read().decode()
    return tuple(  # type: ignore[return-value]
        sum(int(value) for value in re.findall(rf"^nv_cache_num_{kind}_per_model{{.*}} (\d+)$", metrics, re.MULTILINE))
        for kind in ("hits", "misses")
    )


def test_a_text_that_comes_again_gets_its_answer_from_the_cache(cached: Server) -> None:
    """B 28."""
    hits, _ = lookups(cached)
    first = cached.classify("Shares slide as oil rises")
    assert first[0] == 200
    assert cached.classify("Shares slide as oil rises") == first
    assert lookups(cached)[0] == hits + 1
    cached.classify("Shares slide as oil falls")
    assert lookups(cached)[0] == hits + 1


def test_a_probe_is_never_answered_by_the_cache(cached: Server) -> None:
    """I 95: a dead backend must not hide behind remembered answers."""
    hits, misses = lookups(cached)
    until(lambda: lookups(cached)[1] >= misses + 2)
    assert lookups(cached)[0] == hits
    assert len({_mark(number) for number in range(1, 500)}) == 499
    assert all(_mark(number).isspace() for number in range(1, 500))


def test_a_version_changed_in_place_is_refused_and_the_next_number_served(cached: Server) -> None:
    """Triton's cache knows a model's name and version, not its content: it would give the old answers."""
    text = "Galaxies collide"
    cached.classify(text)
    version = cached.repository / "ag_news" / "1"
    other = MODEL.replace("stand-in", "second")
    manifest.save(msgspec.structs.replace(manifest.load(version), figures={"rows": 1}), version)
    cached.process.send_signal(signal.SIGUSR1)
    cached.until("version 1 was changed in place, and the response cache would go on giving its old answers")
    add(cached.repository, 2, other)
    cached.process.send_signal(signal.SIGUSR1)
    cached.until(" loaded\n")
    assert cached.classify(text)[1]["ANSWERED_BY"] == ["second"]

"""Prometheus is told of drift: a tiny model answers texts like those of its reference, and then texts unlike them."""

import random
import re
import urllib.request
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation.examine import Examiner
from newsdesk.build.reference import measure
from newsdesk.clients import Client
from newsdesk.server.runtime import manifest
from tests import tiny
from tests.holding import until
from tests.launching import Server

WINDOW = 300
HISTOGRAMS = "labels", "confidence", "words", "unknown"


def headlines(count: int, seed: int) -> list[str]:
    """Return texts of a dozen words, three of which vote."""
    chance, voting = random.Random(seed), [*tiny.WORDS]
    return [
        " ".join(["a, day:"] * chance.randint(0, 2) + chance.choices(voting, k=3) + ["said"] * chance.randint(2, 12))
        for _ in range(count)
    ]


def strange(count: int) -> list[str]:
    """Return long texts that no word of the model stands in."""
    return [f"{number}; the-weather-is-fine, " * 30 for number in range(count)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tiny.write_model(tmp_path_factory.mktemp("models"), tiny.write)
    version = repository / "ag_news" / "1"
    rows = [Row(text, 0) for text in headlines(1000, seed=1)]
    manifest.save(replace(manifest.load(version), reference=measure(Examiner(version, 1), rows)), version)
    options = ["--target", "onnxruntime:fp32", "--instances", "1", "--no-gateway", "--drift-window", str(WINDOW)]
    running = Server(repository, tmp_path_factory.mktemp("serving") / "state", options=options).start()
    running.until("Ctrl-C stops it")
    yield running
    running.stop()


def samples(server: Server, name: str, by: str) -> dict[str, float]:
    """Return a family's samples by one of their labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports[2]}/metrics", timeout=10) as response:
        lines = re.findall(rf"^newsdesk_{name}{{(.*)}} (\S+)$", response.read().decode(), re.MULTILINE)
    return {re.findall(rf'\b{by}="([^"]*)"', labels)[0]: float(value) for labels, value in lines}


def test_texts_unlike_the_rows_show_and_texts_like_them_do_not(server: Server) -> None:
    """Counts are handed over with the supervisor's next probe, and the probes are not among them."""

    def counted() -> float:
        return sum(samples(server, "labels_total", "label").values())

    with Client(f"grpc://127.0.0.1:{server.ports[1]}", timeout=60, retries=0) as client:
        client.classify(headlines(600, seed=2))
        until(lambda: counted() == 600)
        until(lambda: sorted(samples(server, "drift_by_chance", "histogram")) == sorted(HISTOGRAMS))
        index = samples(server, "drift_index", "histogram")
        assert sorted(index) == sorted(HISTOGRAMS)
        assert max(index.values()) < 0.1, index
        assert max(samples(server, "drift_by_chance", "histogram").values()) < 0.1
        client.classify(strange(WINDOW))
        until(lambda: counted() == 600 + WINDOW)
        until(lambda: min(samples(server, "drift_index", "histogram").values()) > 0.25)
    buckets = samples(server, "words_bucket", "le")
    assert (buckets["24"], buckets["+Inf"]) == (600, 600 + WINDOW)
    assert samples(server, "confidence_bucket", "le")["+Inf"] == 600 + WINDOW

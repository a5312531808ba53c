"""A long text whose caller has gone is not read to its end: its process answers others again."""

import itertools
import random
import urllib.request

import pytest
from tritonclient.utils import InferenceServerException

from benchmarks import servers
from tests.headlines import TEXTS
from tests.holding import until
from tests.service.requests import quality, tensor


def long_text(seed: int) -> str:
    """Return 250 kB of words in an order of its own, so that no two windows are alike."""
    return " ".join(random.Random(seed).choices(" ".join(TEXTS).split(), k=60_000))[:250_000]


def cancelled(server: servers.Server) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("newsdesk_failures") and '"cancelled"' in line
    )


def test_a_process_ends_what_nobody_waits_for(server: servers.Server, grpc) -> None:
    """Texts that take a minute each are ended twice, though their callers wait half a second."""
    before, seeds = cancelled(server), itertools.count()

    def ended_twice() -> bool:
        inputs = [tensor([long_text(next(seeds))]), quality(["best"])]  # which Triton drops where no process has begun
        with pytest.raises(InferenceServerException, match="Deadline"):
            grpc.infer("ag_news", inputs, client_timeout=0.5)
        grpc.infer("ag_news", [tensor(["shares slide"])], client_timeout=60)  # with which counts are handed over
        return cancelled(server) >= before + 2

    until(ended_twice)

"""`make soak`, which lasts ten minutes: a few seconds of it, and two minutes (field notes 34, 35, 37)."""

import pytest

from benchmarks.servers import Server
from benchmarks.soak import mixed, soak
from tests.headlines import unique


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", [10, pytest.param(120, marks=pytest.mark.long)])
def test_256_clients_bad_inputs_and_vanishing_clients(server: Server, seconds: int) -> None:
    outcome = soak(server, mixed(unique(300), count=120), clients=256, seconds=seconds)
    print(f"{dict(outcome.counts)}, {outcome.slope:+.2f} MB a minute")
    assert not outcome.problems
    # That each kind came often, on a slow machine too; how fast is for benchmarks to say.
    assert outcome.counts["answers"] > 10 * seconds
    assert outcome.counts["refused"] > seconds // 3
    assert outcome.counts["vanished"] > seconds // 6
    # In its first minutes a process still grows to what its largest batch takes; the long run has the slope's limit.
    if seconds >= 120:
        assert outcome.slope < 10

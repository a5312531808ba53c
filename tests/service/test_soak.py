"""Two minutes of what `make soak` does for ten (field notes 34, 35, 37)."""

import pytest

from benchmarks.servers import Server
from benchmarks.soak import mixed, soak
from tests.headlines import unique


@pytest.mark.timeout(300)
def test_256_clients_bad_inputs_and_vanishing_clients_for_two_minutes(server: Server) -> None:
    outcome = soak(server, mixed(unique(300)), clients=256, seconds=120)
    print(f"{dict(outcome.counts)}, {outcome.slope:+.2f} MB a minute")
    assert not outcome.problems
    assert outcome.counts["answers"] > 3000
    assert outcome.counts["refused"] > 100
    assert outcome.counts["vanished"] > 40
    # In its first minutes a process still grows to what its largest batch takes; the long run has the slope's limit.
    assert outcome.slope < 10

"""The load generator's arithmetic; tests/service asks real servers with it."""

import numpy as np
import pytest

from newsdesk.server.serving import load


def test_articles_a_second_are_the_answers_of_the_time():
    reading = load.read(2, np.full(20, 0.5), failures=1, elapsed=5)
    assert reading == load.LoadReading(2, 20, 1, per_second=4, p50_ms=500, p99_ms=500)


def test_a_burst_at_the_edge_of_a_run_is_no_throughput():
    # 512 clients that wait 20 s each are answered 25.6 times a second, though all were within these 8 s.
    assert load.read(512, np.full(512, 20.0), failures=0, elapsed=8).per_second == pytest.approx(25.6)

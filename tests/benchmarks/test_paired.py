"""Sides that are measured in turn are compared round by round."""

from benchmarks.paired import Runs
from newsdesk.server.serving.load import LoadReading


def readings(clients: int, *per_second: float) -> list[LoadReading]:
    return [LoadReading(clients, 10, 0, rate, 1000 / rate, 2000 / rate) for rate in per_second]


def test_a_side_is_over_the_one_without_it_of_the_same_round() -> None:
    """The machine was twice as slow in the last round: medians over medians would say 0.50."""
    runs = Runs(
        {
            ("gateway, REST", 4): readings(4, 100, 100, 50),
            ("gateway, REST, shadow", 4): readings(4, 80, 50, 40),
            ("Triton, gRPC", 4): readings(4, 200, 200, 100),
        }
    )
    _, _, row, *_ = runs.compared(["shadow"])
    assert row == "| gateway, REST, shadow | 4 | × 0.80 | × 1.25 | × 1.25 | 0.50 to 0.80 |"
    assert sum("shadow" in line for line in runs.compared(["shadow"])) == 1
    assert "| gateway, REST | 4 | 100 | 10.00 | 20.0 | 0 |" in runs.table()
    assert runs.failures == 0

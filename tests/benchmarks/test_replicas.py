"""The simulation of replicas, against what is known of queues, and the times that it is given."""

import pytest

from benchmarks import autoscaling, replicas
from benchmarks.autoscaling import Scaler, Service, simulate

ALONE = Service(fixed=0.1, per_text=0.0, instances=1, most=1)
TWO = Service(fixed=0.05, per_text=0.01, instances=2, most=8)


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_queue_of_single_texts_is_as_long_as_the_formula_says(share: float) -> None:
    """Pollaczek and Khinchine's, for times that are always the same."""
    outcome = simulate(ALONE, 1, [(4_000, share / 0.1)])
    assert outcome.took.mean() == pytest.approx(0.1 + 0.1 * share / (2 * (1 - share)), rel=0.1)


def test_batches_carry_what_single_texts_could_not() -> None:
    single = Service(TWO.fixed, TWO.per_text, 2, 1)
    assert single.capacity < 60 < TWO.capacity
    assert simulate(TWO, 1, [(60, 60)]).quantile(0.99) < 0.3
    assert simulate(single, 1, [(60, 60)]).quantile(0.5) > 1


def test_replicas_are_as_few_as_keep_the_p99() -> None:
    needed = autoscaling.replicas_for(TWO, 400, 0.2)
    assert simulate(TWO, needed, [(60, 400)]).quantile(0.99) <= 0.2
    assert simulate(TWO, needed - 1, [(60, 400)]).quantile(0.99) > 0.2
    with pytest.raises(ValueError, match=r"one text takes 0\.060 s by itself"):
        autoscaling.replicas_for(TWO, 1, 0.05)


def test_an_autoscaler_grows_after_its_delay_and_shrinks_again() -> None:
    scaler = Scaler(target=16, least=1, most=4, start_seconds=40)
    outcome = simulate(TWO, 1, [(60, 20), (300, 250), (900, 20)], scaler)
    sizes = dict(outcome.replicas)
    first = next(at for at, count in sizes.items() if count > 1)
    assert 60 + 40 < first <= 60 + 15 + 40 + 15
    assert 3 <= max(sizes.values()) <= 4
    assert outcome.replicas[-1][1] == 1
    assert outcome.quantile(0.99, 60, 100) > 1  # nobody helps yet
    assert outcome.quantile(0.99, 300, 360) < 0.5
    assert len(outcome.took) == len(simulate(TWO, 4, [(60, 20), (300, 250), (900, 20)]).took)  # none is lost


def test_the_section_says_how_many_and_for_how_long_it_is_late() -> None:
    page = replicas.sized(TWO, 250, 0.25, Scaler(target=16, start_seconds=30, most=10), busy=180)
    needed = autoscaling.replicas_for(TWO, 250, 0.25)
    assert f"**{needed} replicas** keep a steady load" in page
    rows = [row.split("|")[1:-1] for row in page.splitlines() if row.startswith("| ") and "least" not in row]
    assert [rows[0][0].strip(), rows[-1][0].strip()] == ["1", str(needed)]
    assert rows[0][3].strip() != "never"

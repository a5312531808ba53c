"""The split: stratified, by content, from the eligible rows."""

import hashlib
from collections import Counter

import pytest

from newsdesk.build.data.rows import Row
from newsdesk.build.data.splits import draw, shuffled, split
from newsdesk.build.errors import DataError

ROWS = [Row(f"text {i}", 0 if i % 4 else 1) for i in range(400)]


def test_parts_are_whole_apart_and_stratified():
    train, validation = split(ROWS, 40, seed=1)
    assert len(validation) == 40
    assert Counter(row.label for row in validation) == {0: 30, 1: 10}
    assert sorted(train + validation, key=ROWS.index) == ROWS


def test_the_same_rows_land_on_the_same_side_whatever_their_order():
    assert set(split(ROWS, 40, seed=1)[1]) == set(split(ROWS[::-1], 40, seed=1)[1])
    assert set(split(ROWS, 40, seed=1)[1]) != set(split(ROWS, 40, seed=2)[1])


def test_a_new_row_moves_few_others():
    before = set(split(ROWS, 40, seed=1)[1])
    after = set(split([Row("a new text", 0), *ROWS], 40, seed=1)[1])
    assert len(before - after) <= 1


def test_at_most_a_fifth_is_taken():
    """And no part of a row more: three of 19, of which two of 15 are label 0's."""
    assert len(split(ROWS, 5000, seed=1)[1]) == 80
    rows = [*(Row(f"text {i}", 0) for i in range(15)), *(Row(f"rare {i}", 1) for i in range(4))]
    assert Counter(row.label for row in split(rows, 5000, seed=1)[1]) == {0: 2, 1: 1}


def test_rows_are_shuffled_alike_in_every_build():
    """By Python's own generator: a stage that draws rows anew draws those whose figures are kept."""
    rows = ROWS[:6]
    assert shuffled(rows, 4, seed=3) == [rows[i] for i in (0, 2, 3, 5)]
    assert shuffled(rows, 9, seed=3) == [rows[i] for i in (0, 2, 3, 5, 4, 1)]
    assert rows == ROWS[:6]


def test_only_eligible_rows_validate():
    rows = [Row(row.text, row.label, eligible=i < 200) for i, row in enumerate(ROWS)]
    assert all(row.eligible for row in split(rows, 40, seed=1)[1])


def test_too_few_eligible_rows_say_what_is_wanted():
    rows = [Row(row.text, row.label, eligible=i < 8) for i, row in enumerate(ROWS)]
    with pytest.raises(DataError, match=r"label number 1 has 2 rows to validate on, of 100; 10 are wanted"):
        split(rows, 40, seed=1)


def test_fewer_rows_to_learn_from_are_a_part_of_more():
    few, more = draw(ROWS, 30, seed=1), draw(ROWS, 90, seed=1)
    assert (len(few), len(more)) == (30, 90)
    assert set(few) < set(more)
    assert more == sorted(more, key=ROWS.index)
    assert draw(ROWS, 1000, seed=1) == ROWS


def places(rows: list[Row], seed: int) -> list[str]:
    """Return the texts in the order of their hashes, worked out apart."""
    return sorted((row.text for row in rows), key=lambda text: hashlib.sha256(f"{seed}\0{text}".encode()).digest())


def test_the_rows_that_validate_are_those_of_the_least_hashes():
    """Whoever built before keeps the rows: a quarter of the forty are label 1's, and the order is that of the rows."""
    _, validation = split(ROWS, 40, seed=17)
    chosen = [
        place
        for label, quota in ((0, 30), (1, 10))
        for place in places([r for r in ROWS if r.label == label], 17)[:quota]
    ]
    drawn = places(ROWS, 17)[:30]
    assert [row.text for row in validation] == [row.text for row in ROWS if row.text in chosen]
    assert [row.text for row in draw(ROWS, 30, seed=17)] == [row.text for row in ROWS if row.text in drawn]


def test_quotas_are_rounded_and_no_label_goes_without():
    """20 of 100 rows validate: 1.4 of seven are 1, 18 of 90 are 18, and 0.6 of three 1."""
    rows = [Row(f"{label} {i}", label) for label, count in ((0, 7), (1, 90), (2, 3)) for i in range(count)]
    assert Counter(row.label for row in split(rows, 20, seed=1)[1]) == {0: 1, 1: 18, 2: 1}
    assert Counter(row.label for row in split(rows, 1, seed=1)[1]) == {0: 1, 1: 1, 2: 1}


@pytest.mark.parametrize(("count", "taken"), [(1, False), (2, True)])
def test_a_label_keeps_a_row_to_learn_from(count: int, taken: bool):
    rows = [*(Row(f"text {i}", 0) for i in range(20)), *(Row(f"rare {i}", 1) for i in range(count))]
    if taken:
        train, validation = split(rows, 4, seed=1)
        assert [Counter(row.label for row in part)[1] for part in (train, validation)] == [1, 1]
        return
    with pytest.raises(DataError) as refused:
        split(rows, 4, seed=1)
    assert str(refused.value) == (
        "label number 1 has 1 rows to validate on, of 1; 1 are wanted. Give more rows of it, or ask for fewer "
        "validation rows (split.validation_rows)."
    )


def test_just_as_many_eligible_rows_as_are_wanted_are_enough():
    rows = [Row(row.text, row.label, eligible=i < 40) for i, row in enumerate(ROWS)]
    assert set(split(rows, 40, seed=1)[1]) == set(rows[:40])

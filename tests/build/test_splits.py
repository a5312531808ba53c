"""The split: stratified, by content, from the eligible rows."""

from collections import Counter

import pytest

from newsdesk.build.data.cleaning import Row
from newsdesk.build.data.splits import draw, split
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
    assert len(split(ROWS, 5000, seed=1)[1]) == 80


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

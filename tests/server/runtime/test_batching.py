from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsdesk.server.runtime.batching import (
    BAG_MOST,
    BAG_OVERHEAD,
    BagShapes,
    FreeShapes,
    bags,
    compiled_shapes,
    pad,
    partition,
)

MOST = 510
"""Not a multiple of the step: a length is never rounded beyond it."""
EITHER = st.sampled_from([compiled_shapes(MOST), FreeShapes(MOST)])
LENGTHS = st.lists(st.integers(1, MOST), max_size=100)


@given(EITHER, LENGTHS)
def test_every_text_stands_in_one_group_of_like_length(of: FreeShapes, lengths: list[int]) -> None:
    groups = of.group(lengths)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(len(group) in of.sizes for group in groups)


def _cost(of: FreeShapes, groups: list[list[int]], lengths: list[int]) -> int:
    ids = [[1] * length for length in lengths]
    return sum(of.overhead + padded.size for padded, _ in pad(ids, groups, 0, of))


def _partitions(of: FreeShapes, order: list[int]) -> Iterator[list[list[int]]]:
    """Every way to cut the order into groups of the sizes there are."""
    if not order:
        yield []
    for size in of.sizes:
        if size <= len(order):
            for rest in _partitions(of, order[size:]):
                yield [order[:size], *rest]


@given(EITHER, st.lists(st.integers(1, MOST), max_size=10))
def test_no_grouping_is_cheaper(of: FreeShapes, lengths: list[int]) -> None:
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    cheapest = min(_cost(of, groups, lengths) for groups in _partitions(of, order))
    assert _cost(of, of.group(lengths), lengths) <= cheapest


@pytest.mark.parametrize(("shapes", "sizes"), [(compiled_shapes, [1, 4, 8, 8]), (FreeShapes, [5, 8, 8])])
def test_texts_of_equal_length_fill_their_groups(shapes: Callable[[int], FreeShapes], sizes: list[int]) -> None:
    assert sorted(len(group) for group in shapes(MOST).group([8] * 21)) == sizes


@pytest.mark.parametrize(("shapes", "waste", "most"), [(compiled_shapes, 1.08, 110), (FreeShapes, 1.03, 1000)])
def test_news_wastes_little_in_few_shapes(shapes: Callable[[int], FreeShapes], waste: float, most: int) -> None:
    """64 texts of a feed's lengths at a time: computed tokens over real ones, and in how many shapes."""
    random = np.random.default_rng(3)
    real = computed = 0
    seen = set()
    of = shapes(256)
    for _ in range(200):
        lengths = np.clip(random.lognormal(3.8, 0.35, 64), 12, 256).astype(int).tolist()
        ids = [[1] * length for length in lengths]
        for padded, mask in pad(ids, of.group(lengths), 0, of):
            computed += padded.size
            real += int(mask.sum())
            seen.add(padded.shape)
    assert computed / real < waste
    assert len(seen) < most


@pytest.mark.parametrize(
    ("length", "width"),
    [
        (1, 4),
        (4, 4),
        (5, 8),
        (9, 16),  # not 12, of which the last four would stand alone in a register of sixteen
        (16, 16),
        (40, 40),
        (41, 48),
        (44, 48),
        (48, 48),
        (508, 510),  # no more than the member reads
        (510, 510),
    ],
)
def test_a_width_fills_its_last_register(length: int, width: int) -> None:
    assert compiled_shapes(MOST).width(length) == width
    assert FreeShapes(MOST).width(length) == length


def test_a_text_joins_a_longer_one_where_its_padding_costs_less_than_a_group() -> None:
    """A group costs 20 tokens where kernels are compiled: as many tokens of padding do not cost less."""
    assert compiled_shapes(MOST).group([40, 20]) == [[0], [1]]
    assert compiled_shapes(MOST).group([40, 24]) == [[0, 1]]


def test_a_register_of_two_is_filled_too() -> None:
    assert [FreeShapes(100, step=1, lanes=2).width(length) for length in (1, 2, 3, 4)] == [2, 2, 4, 4]


def test_shapes_between_two_lengths_are_those_of_the_lengths_in_between() -> None:
    made = compiled_shapes(MOST).between(37, 48)
    assert made == [(8, 40), (8, 48), (4, 40), (4, 48), (2, 40), (2, 48), (1, 40), (1, 48)]


@given(EITHER, LENGTHS)
def test_pad_keeps_every_id_and_masks_the_rest(of: FreeShapes, lengths: list[int]) -> None:
    ids = [[i + 1] * length for i, length in enumerate(lengths)]
    groups = of.group(lengths)
    for group, (padded, mask) in zip(groups, pad(ids, groups, 0, of), strict=True):
        assert padded.dtype == mask.dtype == np.int64
        assert padded.shape[1] % of.step == 0 or padded.shape[1] == MOST
        assert padded.shape[1] <= MOST
        for row, i in enumerate(group):
            assert padded[row, mask[row] == 1].tolist() == ids[i]
            assert (padded[row, mask[row] == 0] == 0).all()


@given(EITHER, st.lists(st.integers(12, 96), min_size=1, max_size=64))
def test_shapes_are_all_that_a_grouping_comes_to(of: FreeShapes, lengths: list[int]) -> None:
    ids = [[1] * length for length in lengths]
    made = {padded.shape for padded, _ in pad(ids, of.group(lengths), 0, of)}
    assert made <= set(of.between(12, 96))


@given(st.lists(st.integers(1, 100_000), max_size=100))
def test_every_text_stands_in_one_bag(lengths: list[int]) -> None:
    groups = bags(lengths)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= BAG_MOST


def test_news_stands_in_few_bags_and_one_long_text_alone() -> None:
    """A call costs more than the padding of texts of a feed's lengths; a book must not pad the headlines."""
    random = np.random.default_rng(3)
    lengths = np.clip(random.lognormal(4.3, 0.35, 64), 20, 300).astype(int).tolist()
    assert len(bags(lengths)) <= 5
    assert sorted(bags([30, 50_000, 31, 32])) == [[1], [3, 2, 0]]
    padded = sum(len(group) * max(lengths[i] for i in group) for group in bags(lengths))
    assert padded < 64 * max(lengths) - BAG_OVERHEAD


@pytest.mark.parametrize(
    ("lengths", "groups"),
    [
        ([], []),
        ([7], [[0]]),
        ([100, 900], [[1, 0]]),  # 800 ids of padding cost what a call costs
        ([100, 901], [[0], [1]]),
        ([131_072] * 2, [[0, 1]]),  # 2 ** 18 ids in all
        ([131_073] * 2, [[1], [0]]),
        ([60_000] * 5, [[2, 3, 4], [0, 1]]),  # nothing to save, but too many: halves
        ([5] * 40, [[*range(40)]]),  # as they came
    ],
)
def test_bags_by_hand(lengths: list[int], groups: list[list[int]]) -> None:
    assert bags(lengths) == groups


def test_a_bag_is_padded_to_its_longest() -> None:
    ((ids, mask),) = pad([np.array([5, 6, 7]), np.array([8])], [[0, 1]], 0, BagShapes())
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_where_a_text_has_ended_stands_the_members_own_id() -> None:
    ((ids, mask),) = pad([np.array([5, 6, 7]), np.array([8])], [[1, 0]], 9, FreeShapes(4, step=2))
    assert ids.tolist() == [[8, 9, 9, 9], [5, 6, 7, 9]]
    assert mask.tolist() == [[1, 0, 0, 0], [1, 1, 1, 0]]


def test_every_shape_is_run_before_the_first_request_where_kernels_are_made_for_each() -> None:
    assert FreeShapes(MOST).warm(37, 48) == [(1, 37)]
    assert compiled_shapes(MOST).warm(37, 48) == compiled_shapes(MOST).between(37, 48)
    assert BagShapes().warm(37, 48) == [(64, 256)]


def test_an_encoder_computes_its_padding_and_a_bag_no_token() -> None:
    assert FreeShapes(MOST).computed(3, 40) == 120
    assert BagShapes().computed(3, 40) == 0
    assert BagShapes().group([100, 901]) == bags([100, 901])


def test_a_group_that_is_filled_up_costs_as_much_as_a_full_one() -> None:
    """Three texts of 10 tokens cost 40 and one call as a group of four, or 30 and two calls as two groups."""
    groups = {
        overhead: partition([10] * 3, lambda length: length, (4, 2, 1), overhead, fill=True) for overhead in (9, 11)
    }
    assert sorted(map(len, groups[9])) == [1, 2]
    assert groups[11] == [[0, 1, 2]]

"""Batches for a GPU: few shapes, every text in one group, and nothing of the padding in the answers."""

import numpy as np
import pytest

from newsdesk.server.runtime.engines.tensorrt import grid_of, profile_of
from newsdesk.server.runtime.errors import EngineError
from newsdesk.server.runtime.grids import OVERHEAD, Grid

GRID = Grid((1, 8, 32, 128), (32, 64, 128))


@pytest.mark.parametrize(
    ("size", "expected"), [((1, 1), (1, 32)), ((2, 32), (8, 32)), ((8, 33), (8, 64)), ((128, 128), (128, 128))]
)
def test_a_batch_takes_the_least_shape_that_holds_it(size, expected):
    assert GRID.fit(*size) == expected


@pytest.mark.parametrize("size", [(129, 10), (1, 129)])
def test_beyond_the_last_shape_is_an_error_with_both_sides(size):
    with pytest.raises(ValueError, match=rf"{size[0]} texts of {size[1]} tokens, expected at most 128 of 128"):
        GRID.fit(*size)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 300])
def test_every_text_stands_in_one_group_that_fits(count):
    lengths = np.random.default_rng(count).integers(3, 128, count).tolist()
    groups = GRID.group(lengths)
    assert sorted(i for group in groups for i in group) == list(range(count))
    assert all(GRID.fit(len(group), max(lengths[i] for i in group)) for group in groups)


def test_few_launches_beat_little_padding():
    """Seven short texts and a long one go together, as long as that pads less than a launch costs."""
    assert len(GRID.group([30] * 7 + [60])) == 1
    many = GRID.group([30] * 128 + [128] * 4)
    assert len(many) == 2
    assert OVERHEAD < 128 * (128 - 32)


def test_padding_is_masked_and_cut_off_again():
    ids, mask = np.full((3, 40), 7), np.ones((3, 40), np.int64)
    padded, padded_mask = GRID.pad(ids, mask)
    assert padded.shape == (8, 64)
    assert padded.sum() == ids.sum()
    assert padded_mask.sum() == mask.sum()
    assert np.array_equal(padded[:3, :40], ids)
    assert np.array_equal(padded_mask[:3, :40], mask)


def test_shapes_are_the_products_of_batches_and_lengths_that_stand_once():
    grid = Grid((8, 1, 8), (64, 32, 64))
    assert grid.shapes == grid.warm(3, 40) == [(1, 32), (1, 64), (8, 32), (8, 64)]
    assert (grid.computed(2, 33), grid.width(33)) == (8 * 64, 33)


def test_the_grid_of_an_engine_is_read_off_its_profiles():
    exact = [((1, 1), (1, 32), (1, 32)), ((2, 1), (8, 32), (8, 32)), ((1, 33), (1, 64), (1, 64))]
    assert grid_of(exact).batches == [1, 8]
    assert grid_of(exact).lengths == [32, 64]
    wide = [((1, 1), (128, 32), (128, 32)), ((1, 33), (128, 64), (128, 64))]
    assert grid_of(wide).batches == [1, 8, 32, 128]
    assert profile_of(wide, (8, 64)) == 1
    assert profile_of(exact, (8, 32)) == 1
    with pytest.raises(EngineError, match=r"no optimisation profile of this engine holds the shape \(8, 64\)"):
        profile_of(exact, (8, 64))

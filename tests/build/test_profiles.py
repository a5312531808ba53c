"""Optimisation profiles lie where the lengths of the data lie, and cover every shape."""

import itertools

import numpy as np

from newsdesk.build.compile import profiles

NEWS = np.clip(np.random.default_rng(5).lognormal(3.85, 0.35, 400).astype(int), 8, 256).tolist()


def padded(lengths: list[int], of_lengths: list[int]) -> int:
    return sum(next(end for end in of_lengths if length <= end) for length in lengths)


def test_no_other_ends_pad_less():
    ends = profiles.ends(NEWS, 128, 3)
    lengths = [min(length, 128) for length in NEWS]
    every = itertools.combinations(range(16, 128, 16), 2)
    assert padded(lengths, ends) == min(padded(lengths, [*inner, 128]) for inner in every)


def test_more_buckets_pad_less_and_the_last_is_the_maximum():
    costs = [padded(NEWS, profiles.ends(NEWS, 256, count)) for count in (1, 2, 4, 6)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.5 * costs[0]
    assert profiles.ends(NEWS, 250, 4)[-1] == 250


def test_no_bucket_is_spent_on_lengths_that_do_not_occur():
    assert profiles.ends([20, 30, 31], 256, 6) == [32, 256]


def test_tensorrts_profiles_cover_every_shape_once():
    placed = profiles.place("tensorrt", [32, 64, 100], [1, 8, 32])
    for shape in itertools.product(range(1, 33), range(1, 101)):
        around = [p for p in placed if all(map(lambda least, at, most: least <= at <= most, p.least, shape, p.most))]
        assert len(around) == 1
    assert {p.best for p in placed} == set(itertools.product([1, 8, 32], [32, 64, 100]))


def test_rtx_has_a_profile_for_each_bucket_of_lengths_alone():
    assert profiles.place("tensorrt_rtx", [32, 64], [1, 8, 32]) == [
        profiles.Profile((1, 1), (32, 32)),
        profiles.Profile((1, 33), (32, 64)),
    ]

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from newsdesk.server.ensemble.batching import GROUP, SLACK, pad, plan

LENGTHS = st.lists(st.integers(1, 512), max_size=100)


@given(LENGTHS)
def test_every_text_stands_in_one_group_of_like_length(lengths: list[int]) -> None:
    groups = plan(lengths)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        assert 1 <= len(group) <= GROUP
        assert max(lengths[i] for i in group) * len(group) <= SLACK * sum(lengths[i] for i in group)


def test_texts_of_equal_length_fill_their_groups() -> None:
    assert [len(group) for group in plan([7] * 20)] == [8, 8, 4]


@given(LENGTHS)
def test_pad_keeps_every_id_and_masks_the_rest(lengths: list[int]) -> None:
    ids = [[i + 1] * length for i, length in enumerate(lengths)]
    groups = plan(lengths)
    for group, (padded, mask) in zip(groups, pad(ids, groups, pad_id=0), strict=True):
        assert padded.dtype == mask.dtype == np.int64
        for row, i in enumerate(group):
            assert padded[row, mask[row] == 1].tolist() == ids[i]
            assert (padded[row, mask[row] == 0] == 0).all()

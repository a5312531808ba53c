import numpy as np
import pytest

from newsdesk.server.runtime.lengths import buckets, check, words
from newsdesk.server.runtime.text import clean


def test_words_are_what_stands_between_spaces() -> None:
    texts = ["goal", "Late goal decides", "  a \n\t b\u00a0c  d&nbsp;e "]
    assert words([clean(text) for text in texts]).tolist() == [1, 3, 5]
    assert words([clean(text) for text in texts]).tolist() == [len(clean(text).split()) for text in texts]
    assert words([]).shape == (0,)


def test_a_bound_is_the_first_length_of_the_next_bucket() -> None:
    assert buckets(np.array([1, 5, 6, 11, 12, 900]), [6, 12]).tolist() == [0, 0, 1, 1, 2, 2]


def test_what_goes_by_length_wants_lengths_and_rising_bounds() -> None:
    with pytest.raises(ValueError, match="was given no lengths"):
        buckets(None, [6])
    check([6, 12])
    with pytest.raises(ValueError, match=r"bounds \[6, 6\], expected rising numbers of words"):
        check([6, 6])

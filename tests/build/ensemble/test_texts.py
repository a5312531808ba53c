import numpy as np

from newsdesk.build.ensemble.texts import LEAST, SLICE_ROWS, Texts, bounds


def test_a_bucket_with_few_rows_joins_its_neighbour() -> None:
    lengths = np.repeat([3, 8, 20, 40, 300], [LEAST, LEAST - 1, LEAST, LEAST, LEAST - 1])
    # 3 alone; 8 with 20; 40 with 300, too few to stand alone.
    assert bounds(lengths) == [6, 24]
    assert bounds(np.full(5000, 40)) == bounds(np.array([], int)) == []


def test_slices_with_few_rows_are_not_judged() -> None:
    slices = np.repeat(["whole", "headline"], [SLICE_ROWS, SLICE_ROWS - 1])
    judged = Texts(slices=slices).judged
    assert [*judged] == ["whole"]
    assert judged["whole"].tolist() == list(range(SLICE_ROWS))
    assert Texts().judged == {}


def test_a_part_knows_what_the_whole_knows() -> None:
    texts = Texts(np.array([1, 2, 3]), None, np.array(["a", "b", "c"]))
    part = texts.part(np.array([2, 0]))
    assert part.lengths.tolist() == [3, 1]
    assert part.groups is None
    assert part.slices.tolist() == ["c", "a"]
    assert [*part.known] == ["lengths", "slices"]

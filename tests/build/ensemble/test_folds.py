import numpy as np

from newsdesk.build.ensemble.folds import folds, out_of_fold


def test_every_row_is_in_one_fold_and_every_fold_has_its_share_of_each_label() -> None:
    labels = np.array([0] * 50 + [1] * 20 + [2] * 7)
    parts = folds(labels, 5, 1)
    assert sorted(np.concatenate(parts)) == list(range(77))
    for part in parts:
        counts = np.bincount(labels[part], minlength=3)
        assert counts[0] == 10
        assert counts[1] == 4
        assert counts[2] in (1, 2)
    again, other = folds(labels, 5, 1), folds(labels, 5, 2)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))
    assert not all(len(a) == len(b) and (a == b).all() for a, b in zip(parts, other, strict=True))


def test_rows_of_a_group_stay_together_and_labels_are_shared_out() -> None:
    groups = np.arange(100) // 5
    labels = groups % 4
    parts = folds(labels, 5, 1, groups)
    assert sorted(np.concatenate(parts)) == list(range(100))
    for part in parts:
        assert np.bincount(groups[part], minlength=20).tolist().count(5) == 4
        assert np.bincount(labels[part]).tolist() == [5, 5, 5, 5]


def test_no_fold_is_empty_where_rows_are_few() -> None:
    assert [len(part) for part in folds(np.array([0, 1, 1]), 5, 0)] == [1, 1, 1]


def test_out_of_fold_answers_come_from_fits_that_never_saw_the_row() -> None:
    labels = np.arange(12) % 3
    members = np.arange(12, dtype=float).reshape(1, 12, 1).repeat(2, axis=2)

    def fit(rest: np.ndarray):
        seen = set(rest)
        assert len(seen) == 9

        def predict(asked: np.ndarray) -> np.ndarray:
            assert not seen & set(asked[0, :, 0])
            return asked[0]

        return predict

    answers = out_of_fold(members, folds(labels, 4, 0), fit)
    np.testing.assert_array_equal(answers, members[0])

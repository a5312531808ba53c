"""The page of drift: texts like the reference's have no index, and others have."""

from pathlib import Path

from benchmarks import drift
from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation.examine import Examiner
from newsdesk.build.reference import measure
from newsdesk.server.runtime.classifier import Classifier
from tests import tiny

NEAR = [Row(text, 0) for text in ["goal match goal", "a minister", "market shares", "software"] * 100]
FAR = [Row("nothing of it " * 20, 0)] * 300


def test_what_is_far_has_an_index_and_what_is_near_has_none(tmp_path: Path):
    made = tiny.write_cascade(tmp_path)
    reference, classifier = measure(Examiner(tmp_path, 1), NEAR), Classifier(made, tmp_path)
    near, far = (drift.ask(classifier, rows) for rows in (NEAR, FAR))
    assert [len(batch.levels) for batch in far] == [64, 64, 64, 64, 44]
    assert max(drift.index(reference, near)) < drift.LITTLE
    assert max(drift.index(reference, far)) > drift.MUCH
    assert "of processor time a text" in drift.cost(rounds=2)

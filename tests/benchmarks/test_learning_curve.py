"""The learning curve: a power law found again, and a member measured with fewer rows and the same validation rows."""

import json
from pathlib import Path

import pytest

from benchmarks import learning_curve
from tests.build.encoders import WORDS, sentence


def test_a_power_law_is_found_again() -> None:
    a, b = learning_curve.fit([100, 1000, 10_000], [0.2, 0.1, 0.05])
    assert (a, b) == (pytest.approx(0.8), pytest.approx(0.30103, abs=1e-5))


def test_a_member_is_measured_without_its_teachers(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("\n".join(["text,label", *(f"{sentence(label, i)},{label}" for i in range(80) for label in WORDS)]))
    student = {"features": {"buckets": 4096}, "epochs": 4, "batch_size": 32, "excerpts": True}
    changes = {
        "data.train": {"file": str(rows)},
        "data.test": None,
        "labels": [*WORDS],
        "split.validation_rows": 30,
        "members.student.student": student,
    }
    measured = [
        learning_curve.measure("compact", json.loads(json.dumps(changes)), "student", count, tmp_path / "artifacts")
        for count in (60, 150)
    ]
    assert [count for count, _ in measured] == [60, 150]
    assert all(0.5 < accuracy <= 1 for _, accuracy in measured)
    splits = [json.loads(path.read_text()) for path in (tmp_path / "artifacts" / "split").glob("*/entry.json")]
    assert len({split["files"]["validation.parquet"] for split in splits}) == 1

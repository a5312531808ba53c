"""A model against an older one: two tiny models whose labels stand the other way round, by hand."""

from pathlib import Path

import msgspec
import pytest

from newsdesk.build import reporting
from newsdesk.build.data.rows import Row
from newsdesk.build.errors import RecipeError
from newsdesk.build.evaluation import against
from newsdesk.build.evaluation.against import Comparison
from newsdesk.build.evaluation.examine import Examiner
from newsdesk.build.evaluation.significance import McNemar
from newsdesk.server.runtime.repository import RepositoryError
from tests import tiny

SWAPPED = ["Sports", "World", "Business", "Sci/Tech"]
"""The old model takes World for Sports and the other way round."""
ROWS = [
    Row("minister and treaty", 0),
    Row("a treaty again", 0),
    Row("the match", 1),
    Row("market shares", 2),
    Row("one goal | two goals", 0),  # labelled wrong: the old model says so too
    Row("the minister of sport", 2),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Examiner, Examiner]:
    folder = tmp_path_factory.mktemp("models")
    tiny.write(folder / "new")
    tiny.write(folder / "old", labels=SWAPPED)
    return Examiner(folder / "new", 1), Examiner(folder / "old", 1)


@pytest.fixture(scope="module")
def compared(models: tuple[Examiner, Examiner]) -> Comparison:
    new, old = models
    return against.compare(new, old, new.ask(ROWS, "rows"), ROWS, seed=1)


def test_accuracy_mcnemar_and_labels_are_as_by_hand(compared: Comparison):
    assert [*compared.points] == ["fast", "balanced", "best"]
    for point in compared.points.values():
        assert (point.new.accuracy, point.old.accuracy) == (4 / 6, 2 / 6)
        low, high = point.new.accuracy_interval
        assert low < 4 / 6 < high
        # 3 rows only the new model gets right, 1 only the old: p = 2 * (1 + 4) / 2^4.
        assert point.mcnemar == McNemar(only_first=3, only_second=1, p=pytest.approx(10 / 16))
        of_world = point.per_label[0]
        assert (of_world.label, of_world.rows) == ("World", 3)
        assert (of_world.new, of_world.old) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_texts_whose_label_changes_are_listed_by_the_kind_of_the_change(compared: Comparison):
    changed = compared.points["balanced"].changed
    assert {kind: sorted(row.row for row in rows) for kind, rows in changed.items()} == {
        "right_to_wrong": [5],
        "wrong_to_right": [1, 2, 3],
        "wrong_to_other": [6],
    }
    (row,) = changed["right_to_wrong"]
    assert (row.label, row.old, row.new, row.text) == ("World", "World", "Sports", ROWS[4].text)


def test_the_page_shows_them_and_need_not_quote_them(compared: Comparison):
    page = against.render(compared)
    assert "| balanced | 33.33% |" in page
    assert "### balanced: 3 wrong before, right now" in page
    assert "one goal \\| two goals" in page
    hidden = against.without_texts(compared)
    page = against.render(hidden)
    assert not [
        row.text for row in ROWS if row.text in msgspec.json.encode(hidden).decode() or against.cell(row.text) in page
    ]
    assert hidden.points["balanced"].changed["right_to_wrong"][0].id in page


def test_other_labels_are_refused_by_name(models: tuple[Examiner, Examiner], tmp_path: Path):
    tiny.write(tmp_path / "other", labels=["World", "Sports", "Business", "Weather"])
    with pytest.raises(RecipeError, match=r"only the new has Sci/Tech; only the old has Weather"):
        against.check(models[0], Examiner(tmp_path / "other", 1))


def test_the_old_model_is_a_repository_or_a_folder_of_it(tmp_path: Path):
    tiny.write_model(tmp_path, tiny.write, "desk")
    assert (
        reporting.find_model(tmp_path, "ag_news") == reporting.find_model(tmp_path / "desk", "x") == tmp_path / "desk"
    )
    tiny.write_model(tmp_path, tiny.write, "queues")
    assert reporting.find_model(tmp_path, "queues") == tmp_path / "queues"
    with pytest.raises(RepositoryError, match="several models, desk, queues"):
        reporting.find_model(tmp_path, "ag_news")

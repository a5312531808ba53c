"""Views of articles and slices of rows, by hand."""

import random
from collections import Counter

import pytest

from newsdesk.build.data import views
from newsdesk.build.data.rows import Row
from newsdesk.build.recipe import Split, Train, ViewName

TITLE = "Ferry runs aground"
REST = "Reuters - A ferry ran aground off the U.S. coast at dawn. Nobody was hurt. Tugs pulled it free by noon."
ROW = Row(f"{TITLE} {REST}", 2, title=TITLE)


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ("whole", ROW.text),
        ("headline", TITLE),
        ("description", REST),
        ("first sentence", "Reuters - A ferry ran aground off the U.S. coast at dawn."),
        ("look-alikes", ROW.text),  # cleaning undoes them, but for words that are wholly of look-alikes
        ("sources stripped", f"{TITLE} A ferry ran aground off the U.S. coast at dawn. {REST[58:]}"),
    ],
)
def test_a_view_of_a_row_with_its_headline_apart(view: str, expected: str) -> None:
    if view == "look-alikes":
        assert (
            views.read(view, ROW, "1").translate(str.maketrans("асеорхуАВСЕНКМОРТХ", "aceopxyABCEHKMOPTX")) == expected
        )
    else:
        assert views.read(view, ROW, "1") == expected


def test_a_row_without_a_headline_apart_shows_its_opening() -> None:
    row = Row(" ".join(f"word{i}" for i in range(40)), 0)
    words = views.read("headline", row, "1").split()
    assert words == row.text.split()[: len(words)]
    assert 4 <= len(words) <= 11
    assert views.read("description", row, "1") == row.text


def test_a_run_of_words_stands_in_the_row() -> None:
    runs = [views.read("run of words", ROW, str(seed)) for seed in range(50)]
    assert all(run in ROW.text for run in runs)
    assert len(set(runs)) > 10
    assert min(len(run.split()) for run in runs) >= 5


@pytest.mark.parametrize("view", views.VIEWS)
def test_a_view_is_clean_the_same_for_the_same_seed_and_never_empty(view: str) -> None:
    assert views.read(view, ROW, "7") == views.read(view, ROW, "7") != ""
    assert views.read(view, Row("x", 0), "7")


def test_views_are_drawn_by_their_shares_and_anew_for_another_seed() -> None:
    rows = [Row(f"{TITLE} {i} {REST}", 0, title=f"{TITLE} {i}") for i in range(600)]
    first = views.draw(rows, {"headline": 3, "whole": 1}, "0")
    kinds = Counter("headline" if text == row.title else "whole" for text, row in zip(first, rows, strict=True))
    assert kinds["headline"] == pytest.approx(450, abs=40)
    assert (
        views.draw(rows, {"headline": 3, "whole": 1}, "0")
        == first
        != views.draw(rows, {"headline": 3, "whole": 1}, "1")
    )
    assert views.draw(rows, {}, "0") == [row.text for row in rows]


def test_slices_show_a_share_of_the_rows_and_say_whose_row_they_are() -> None:
    rows = [Row(f"{TITLE} {i} {REST}", i % 2, title=f"{TITLE} {i}") for i in range(10)]
    sliced = views.slices(rows, {"whole": 1, "headline": 0.3, "joined": 0.2}, seed=1)
    assert [row.view for row in sliced] == ["whole"] * 10 + ["headline"] * 3 + ["joined"] * 2
    drawn = [row.group for row in sliced[10:13]]
    assert [row.group for row in sliced[:10]] == [*range(10)]
    assert len(set(drawn)) == 3
    assert [row.text for row in sliced[10:13]] == [rows[place].title for place in drawn]
    assert [row.label for row in sliced[10:13]] == [place % 2 for place in drawn]
    assert [row.label for row in sliced[13:]] == [0, 1]


def test_a_slice_of_rows_that_stand_by_label_is_of_all_labels() -> None:
    """The first tenth of such rows has one label."""
    rows = [Row(f"{REST} {i}", i // 250) for i in range(1000)]
    for name in ("run of words", "case noise"):
        sliced = views.slices(rows, {name: 0.1}, seed=1)
        counts = Counter(row.label for row in sliced)
        assert sum(counts.values()) == 100
        assert all(15 <= counts[label] <= 36 for label in range(4))
        assert [row.group for row in sliced] == sorted(row.group for row in sliced)


def test_a_joined_text_is_of_articles_of_one_label() -> None:
    rows = [Row(f"article {i} of label {i % 3}", i % 3) for i in range(60)]
    for row in views.joined(rows, 6, seed=3):
        parts = row.text.split("article ")[1:]
        assert 4 <= len(parts) <= 10
        assert {part.strip()[-1] for part in parts} == {str(row.label)}


def test_without_shares_every_row_comes_whole_once() -> None:
    rows = [Row(f"row {i}", 0) for i in range(random.Random(0).randint(3, 9))]
    assert [row.text for row in views.slices(rows, {}, seed=1)] == [row.text for row in rows]


def test_the_recipe_names_the_views_that_there_are() -> None:
    assert set(ViewName.__args__) == set(views.VIEWS)  # type: ignore[attr-defined]
    assert Split(slices={"joined": 0.1}).slices == {"joined": 0.1}
    assert Train(views={"headline": 1}).views == {"headline": 1}

"""Cleaning judges every row and reports what it found."""

import pytest

from newsdesk.build.data.cleaning import SHOWN, Labels, clean_rows
from newsdesk.build.data.sources import RawRow
from newsdesk.build.errors import DataError

LABELS = Labels(["harbour", "kitchen"])


def raw(*rows: tuple[str, str]) -> list[RawRow]:
    return [RawRow(number, text, label, {}) for number, (text, label) in enumerate(rows, start=1)]


def test_a_clean_corpus_passes_untouched():
    rows, report = clean_rows(raw(("The ferry sails", "harbour"), ("Soup with onion", "kitchen")), LABELS)
    assert [(row.text, row.label) for row in rows] == [("The ferry sails", 0), ("Soup with onion", 1)]
    assert report.as_dict() == {"read": 2, "kept": 2, "findings": {}, "per_label": {"harbour": 1, "kitchen": 1}}


@pytest.mark.parametrize(
    ("text", "kind", "cleaned"),
    [
        ("The cook #39;s soup", "cleaned_entity", "The cook 's soup"),
        ("Salt &amp; flour", "cleaned_entity", "Salt & flour"),
        ("A <b>new</b> pier", "cleaned_html_tag", "A new pier"),
        ("The tide\\was high", "cleaned_backslash", "The tide was high"),
    ],
)
def test_the_corpus_own_artefacts_are_cleaned_and_counted(text: str, kind: str, cleaned: str):
    rows, report = clean_rows(raw((text, "harbour")), LABELS)
    assert rows[0].text == cleaned
    assert report.as_dict()["findings"][kind] == {"rows": 1, "first": [1]}


@pytest.mark.parametrize(
    ("text", "label", "kind"),
    [
        ("broken \udcff byte", "harbour", "dropped_undecodable"),
        ("The ferry", "garden", "dropped_wrong_label"),
        ("The ferry", "", "dropped_wrong_label"),
        ("The ferry", "2", "dropped_wrong_label"),
        ("", "harbour", "dropped_empty"),
        (" \\ <br> \t", "harbour", "dropped_empty"),
        ("  THE FERRY   sails ", "harbour", "dropped_duplicate"),
    ],
)
def test_what_cannot_be_learned_from_is_dropped(text: str, label: str, kind: str):
    rows, report = clean_rows(raw(("The ferry sails", "harbour"), (text, label)), LABELS)
    assert len(rows) == 1
    assert report.as_dict()["findings"][kind] == {"rows": 1, "first": [2]}


def test_a_text_under_two_labels_is_dropped_whole():
    rows, report = clean_rows(
        raw(("Salt", "harbour"), ("salt", "kitchen"), ("Salt", "harbour"), ("Soup", "kitchen")), LABELS
    )
    assert [row.text for row in rows] == ["Soup"]
    assert report.counts["dropped_two_labels"] == 1


def test_texts_of_the_test_split_are_held_out():
    rows, report = clean_rows(raw(("The Ferry", "harbour"), ("Soup", "kitchen")), LABELS, held_out=["the ferry"])
    assert [row.text for row in rows] == ["Soup"]
    assert report.counts["dropped_in_test"] == 1


def test_the_test_split_keeps_its_duplicates():
    rows, _ = clean_rows(raw(("Soup", "kitchen"), ("Soup", "kitchen")), LABELS, drop_duplicates=False)
    assert len(rows) == 2


def test_the_report_shows_the_first_rows_of_each_finding():
    count = SHOWN + 3
    _, report = clean_rows(raw(("Soup", "kitchen"), *[("", "kitchen")] * count), LABELS)
    assert report.lines() == [
        f"{count + 1} rows read, 1 kept (kitchen 1)",
        f"  dropped_empty: {count} (rows 2, 3, 4, 5, 6, …)",
    ]


def test_nothing_left_is_an_error_with_the_report():
    with pytest.raises(DataError, match=r"no row is left(.|\n)*dropped_wrong_label: 1 \(rows 1\)"):
        clean_rows(raw(("The ferry", "nonsense")), LABELS)


def test_labels_are_names_or_numbers_from_the_first():
    labels = Labels(["harbour", "kitchen"], first=1)
    assert [labels.index(raw) for raw in ("1", " 2 ", "kitchen", "0", "3")] == [0, 1, 1, None, None]
    assert Labels.of(raw(("a", "kitchen "), ("b", "harbour"), ("c", "kitchen"), ("d", ""))).names == [
        "harbour",
        "kitchen",
    ]


@pytest.mark.parametrize(("names", "message"), [(["one"], "at least two"), (["a", "b", "a"], "'a' stands twice")])
def test_labels_that_are_none(names: list[str], message: str):
    with pytest.raises(DataError, match=message):
        Labels(names)

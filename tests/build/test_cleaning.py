"""Cleaning judges every row and reports what it found."""

import msgspec
import pytest

from newsdesk.build.data.cleaning import (
    NAMES_ONLY,
    SHOWN,
    TITLE,
    WEIGHT,
    CleaningFigures,
    FindingRows,
    LabelReader,
    clean_rows,
    look_alike,
)
from newsdesk.build.data.rows import Row
from newsdesk.build.data.sources import RawRow
from newsdesk.build.errors import DataError
from newsdesk.server.contract import CORRECTED_AT

LABELS = LabelReader(["harbour", "kitchen"])


def raw(*rows: tuple[str, str]) -> list[RawRow]:
    return [RawRow(number, text, label, {}) for number, (text, label) in enumerate(rows, start=1)]


def test_a_clean_corpus_passes_untouched():
    rows, report = clean_rows(raw(("The ferry sails", "harbour"), ("Soup with onion", "kitchen")), LABELS)
    assert rows == [Row("The ferry sails", 0, eligible=True), Row("Soup with onion", 1, eligible=True)]
    assert report.figures() == CleaningFigures(read=2, kept=2, findings={}, per_label={"harbour": 1, "kitchen": 1})


@pytest.mark.parametrize(
    ("text", "kind", "cleaned"),
    [
        ("The cook #39;s soup", "cleaned_entity", "The cook 's soup"),
        ("Salt &amp; flour", "cleaned_entity", "Salt & flour"),
        ("A <b>new</b> pier", "cleaned_html_tag", "A new pier"),
        ("The tide\\was high", "cleaned_backslash", "The tide was high"),
    ],
)
def test_the_corpus_own_artifacts_are_cleaned_and_counted(text: str, kind: str, cleaned: str):
    rows, report = clean_rows(raw((text, "harbour")), LABELS)
    assert rows[0].text == cleaned
    assert report.figures().findings[kind] == FindingRows(rows=1, first=[1])


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
    assert report.figures().findings[kind] == FindingRows(rows=1, first=[2])


def test_a_text_under_two_labels_is_dropped_whole():
    rows, report = clean_rows(
        raw(("Salt", "harbour"), ("salt", "kitchen"), ("Salt", "harbour"), ("Soup", "kitchen")), LABELS
    )
    assert [row.text for row in rows] == ["Soup"]
    assert report.counts["dropped_two_labels"] == 1


def test_the_last_correction_of_a_text_counts():
    def row(number: int, label: str, corrected_at: str = "") -> RawRow:
        return RawRow(number, "Salt", label, {CORRECTED_AT: corrected_at} if corrected_at else {})

    noon, first, two = "2026-01-01T12:00:00.000Z", "2026-01-01T13:00:00.000Z", "2026-01-01T14:00:00.000Z"
    for rows, label, findings in [
        ([row(1, "harbour"), row(2, "kitchen", noon)], "kitchen", {"corrected": 1}),
        ([row(1, "kitchen", noon), row(2, "harbour")], "kitchen", {"dropped_corrected": 1}),
        (
            [row(1, "kitchen", first), row(2, "harbour", two), row(3, "kitchen", noon)],
            "harbour",
            {"corrected": 1, "dropped_corrected": 1},
        ),
        ([row(1, "kitchen", noon), row(2, "harbour", noon)], "harbour", {"corrected": 1}),  # the later line
        (
            [row(1, "harbour"), row(2, "kitchen"), row(3, "harbour", noon), row(4, "kitchen")],
            "harbour",
            {"dropped_two_labels": 1, "corrected": 1, "dropped_corrected": 1},
        ),
    ]:
        (kept,), report = clean_rows(rows, LABELS)
        assert (LABELS.names[kept.label], dict(report.counts)) == (label, findings)


def test_texts_of_the_test_split_are_held_out():
    rows, report = clean_rows(raw(("The Ferry", "harbour"), ("Soup", "kitchen")), LABELS, held_out=["the ferry"])
    assert [row.text for row in rows] == ["Soup"]
    assert report.counts["dropped_in_test"] == 1


def test_the_test_split_keeps_its_duplicates():
    rows, _ = clean_rows(raw(("Soup", "kitchen"), ("Soup", "kitchen")), LABELS, drop_duplicates=False)
    assert len(rows) == 2


def test_the_rows_that_were_corrected_are_named():
    at = {CORRECTED_AT: "2026-01-01T12:00:00.000Z"}
    rows = [RawRow(7, "Salt", "harbour", {}), RawRow(8, "Salt", "kitchen", at), RawRow(9, "Salt", "harbour", {})]
    _, report = clean_rows(rows, LABELS)
    assert report.examples == {"corrected": [8], "dropped_corrected": [9]}


def test_a_headline_is_kept_apart_where_the_text_begins_with_it():
    rows = [
        RawRow(1, "Salt &amp; sea  The ferry sails", "harbour", {TITLE: "Salt  &amp; sea"}),
        RawRow(2, "The soup is hot", "kitchen", {TITLE: "Onion"}),
        RawRow(3, "Saltwater rises", "harbour", {TITLE: "Salt"}),
        RawRow(4, " Bread", "kitchen", {}),
    ]
    kept, _ = clean_rows(rows, LABELS)
    assert [row.title for row in kept] == ["Salt & sea", "", "", ""]


def test_a_row_has_its_weight_and_its_probabilities():
    rows = [
        RawRow(1, "The ferry", "harbour", {WEIGHT: "0.5"}),
        RawRow(2, "Soup", "kitchen", {}, {"kitchen": 1.0}),
        RawRow(3, "Fish", "harbour", {}, {"kitchen": 0.25, "harbour": 0.75}),
    ]
    kept, _ = clean_rows(rows, LABELS)
    assert [(row.weight, row.soft) for row in kept] == [(0.5, ()), (1.0, (0.0, 1.0)), (1.0, (0.75, 0.25))]
    with pytest.raises(
        DataError, match=r"^row 4: a probability of 'attic', which is none of \['harbour', 'kitchen'\]$"
    ):
        clean_rows([RawRow(4, "Old", "kitchen", {}, {"kitchen": 0.5, "garden": 0.25, "attic": 0.25})], LABELS)


def test_labels_of_the_same_letters_look_alike():
    """By case, accents, spaces, punctuation and encoding; those of no letter by what they are."""
    names = [
        "money",
        "Money",
        "caf\u00e9",
        "cafe\u0301",
        "sport",
        "SPORT",
        "sp-ort",
        "a b",
        "ab",
        "--",
        "\u2026",
        "...",
    ]
    assert look_alike(names) == [
        ["money", "Money"],
        ["caf\u00e9", "cafe\u0301"],
        ["sport", "SPORT", "sp-ort"],
        ["a b", "ab"],
        ["\u2026", "..."],
    ]
    assert look_alike(["--", "++", "harbour"]) == []


def test_the_report_shows_the_first_rows_of_each_finding():
    count = SHOWN + 3
    _, report = clean_rows(raw(("Soup", "kitchen"), *[("", "kitchen")] * count), LABELS)
    assert report.lines() == [
        f"{count + 1} rows read, 1 kept (kitchen 1)",
        f"  dropped_empty: {count} (rows 2, 3, 4, 5, 6, …)",
    ]


def test_nothing_left_is_an_error_with_the_report():
    with pytest.raises(DataError) as error:
        clean_rows(raw(("The ferry", "nonsense")), LABELS)
    assert str(error.value) == (
        "no row is left to learn from:\n1 rows read, 0 kept ()\n  dropped_wrong_label: 1 (rows 1)"
    )


def test_labels_are_names_or_numbers_from_the_first():
    labels = LabelReader(["harbour", "kitchen"])
    assert [labels.index(raw) for raw in ("0", "1", "2")] == [0, 1, None]
    labels = LabelReader(["harbour", "kitchen"], first=1)
    assert [labels.index(raw) for raw in ("1", " 2 ", "kitchen", "0", "3")] == [0, 1, 1, None, None]
    assert LabelReader.of(raw(("a", "kitchen "), ("b", "harbour"), ("c", "kitchen"), ("d", ""))).names == [
        "harbour",
        "kitchen",
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["one"], "labels ['one'] were found; a classifier needs at least two"),
        (["a", "b", "a"], "label 'a' stands twice in the recipe's labels"),
    ],
)
def test_labels_that_are_none(names: list[str], message: str):
    with pytest.raises(DataError) as error:
        LabelReader(names)
    assert str(error.value) == message


def test_the_whole_report_by_hand():
    rows, report = clean_rows(
        raw(
            ("The ferry &amp; the <b>tide</b>", "harbour"),
            ("the FERRY & the tide", "harbour"),
            ("Soup", "kitchen"),
            ("soup", "harbour"),
            ("SOUP", "kitchen"),
            ("", "kitchen"),
            ("\udcff", "kitchen"),
            ("Onions", "garden"),
            ("Held out", "kitchen"),
            ("Fish \\ chips", "kitchen"),
        ),
        LABELS,
        held_out=["HELD out"],
        eligible=lambda row: row.number != 10,
    )
    assert rows == [Row("The ferry & the tide", 0, True), Row("Fish chips", 1, False)]
    assert msgspec.to_builtins(report.figures()) == {
        "read": 10,
        "kept": 2,
        "findings": {
            "cleaned_backslash": {"rows": 1, "first": [10]},
            "cleaned_entity": {"rows": 1, "first": [1]},
            "cleaned_html_tag": {"rows": 1, "first": [1]},
            "dropped_duplicate": {"rows": 2, "first": [2, 5]},
            "dropped_empty": {"rows": 1, "first": [6]},
            "dropped_in_test": {"rows": 1, "first": [9]},
            "dropped_two_labels": {"rows": 1, "first": [4]},
            "dropped_undecodable": {"rows": 1, "first": [7]},
            "dropped_wrong_label": {"rows": 1, "first": [8]},
        },
        "per_label": {"harbour": 1, "kitchen": 1},
    }
    assert report.lines()[:3] == [
        "10 rows read, 2 kept (harbour 1, kitchen 1)",
        "  cleaned_backslash: 1 (rows 10)",
        "  cleaned_entity: 1 (rows 1)",
    ]
    assert report.lines()[4] == "  dropped_duplicate: 2 (rows 2, 5)"


def test_just_as_many_rows_as_are_shown_and_thousands_are_parted():
    _, report = clean_rows(raw(*[("", "kitchen")] * SHOWN, *[(f"Soup {i}", "kitchen") for i in range(1200)]), LABELS)
    assert report.lines() == [
        "1,205 rows read, 1,200 kept (kitchen 1,200)",
        "  dropped_empty: 5 (rows 1, 2, 3, 4, 5)",
    ]


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_the_first_and_the_last_half_of_a_character_are_undecodable(text: str):
    with pytest.raises(DataError, match="dropped_undecodable: 1"):
        clean_rows(raw((text, "kitchen")), LABELS)


def test_the_characters_beside_the_halves_are_kept():
    rows, _ = clean_rows(raw(("\ud7ff a", "kitchen"), ("\ue000 b", "kitchen")), LABELS)
    assert [row.text for row in rows] == ["\ud7ff a", "\ue000 b"]


def test_numbers_are_names_where_nothing_says_that_they_count():
    """Labels 1 to 3 of one file and 0 to 2 of another were taken for the same three."""
    trained = LabelReader.of(raw(("a", "1"), ("b", "2"), ("c", "3")))
    assert [trained.index(label) for label in ("1", "3", "0")] == [0, 2, None]
    named = LabelReader(["harbour", "kitchen"], NAMES_ONLY)
    assert [named.index(label) for label in ("kitchen", "0", "1")] == [1, None, None]


def test_a_test_label_that_training_does_not_know_is_refused_by_name():
    rows = raw(("The ferry", "1"), ("Soup", "0"), ("Rain", "0"), ("Sun", " 4 "), ("Snow", " "))
    with pytest.raises(DataError) as error:
        clean_rows(rows, LabelReader(["1", "2"], NAMES_ONLY), drop_duplicates=False)
    assert str(error.value) == (
        "the test rows have labels that training does not know: '0' (row 2), '4' (row 4); it knows '1', '2'. Where the "
        "labels are numbers that count the recipe's, say from which one with --first-label."
    )


def test_a_test_row_without_a_label_is_dropped_and_ends_nothing():
    rows, report = clean_rows(raw(("Soup", "kitchen"), ("Snow", " ")), LABELS, drop_duplicates=False)
    assert [row.text for row in rows] == ["Soup"]
    assert report.counts == {"dropped_wrong_label": 1}


@pytest.mark.parametrize(("unknown", "shown"), [(5, "'x4' (row 6); it knows"), (6, "'x4' (row 6), …; it knows")])
def test_five_unknown_labels_are_shown(unknown: int, shown: str):
    rows = raw(("The ferry", "harbour"), *[("Soup", f"x{i}") for i in range(unknown)])
    with pytest.raises(DataError) as error:
        clean_rows(rows, LABELS, drop_duplicates=False)
    assert shown in str(error.value)
    assert str(error.value).endswith("count the recipe's, say from which one with --first-label.")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            "har\nbour",
            r"^row 2: the label 'har\\nbour' has a line break or .* character in it: is a quote missing\?$",
        ),
        ("har\x00bour", "row 2: the label .* has a line break or another control character"),
        ("caf\udce9", "^row 2: the label .* is not UTF-8: save the file as UTF-8$"),
        ("caf\ud800", "row 2: the label .* is not UTF-8"),
        ("\udfff", "row 2: the label .* is not UTF-8"),
        ("x" * 100 + "\ny", f"row 2: the label '{'x' * 80}' has a line break"),
    ],
)
def test_a_label_that_is_no_name_is_refused_before_anything_is_trained(label: str, message: str):
    rows = raw(("The ferry", "harbour"), ("Soup", label))
    with pytest.raises(DataError, match=message):
        LabelReader.of(rows)
    with pytest.raises(DataError, match=message):
        clean_rows(rows, LABELS)
    assert LabelReader.of(raw(("a", "Kultur\u00a0& Kunst"), ("b", "Welt"))).names == ["Kultur\u00a0& Kunst", "Welt"]

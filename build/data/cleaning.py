"""Turn raw rows into rows to learn from, and report what was found on the way."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from unicodedata import category, normalize

from msgspec import Struct

from newsdesk.build.data.rows import Row
from newsdesk.build.data.sources import RawRow
from newsdesk.build.errors import DataError
from newsdesk.server.contract import CORRECTED_AT
from newsdesk.server.runtime.text import clean

TITLE = "title of the article"
"""The cell that holds the headline of a raw row whose source keeps it apart."""
WEIGHT = "weight of the row"
"""The cell that holds how much a raw row counts."""
NAMES_ONLY = -1
"""As a source's `first_label`: no number counts the labels."""
SHOWN = 5
"""Row numbers listed in the report for each kind of finding."""

_ARTEFACTS: dict[str, Callable[[str], object]] = {
    "entity": re.compile(r"&#?\w{1,8};|(?<!&)#\d{2,5};|\b(?:quot|amp|lt|gt|nbsp);").search,
    "html_tag": re.compile(r"</?[A-Za-z][^<>]{0,300}>|&lt;/?[A-Za-z]").search,
    "backslash": lambda text: "\\" in text,
}


_NUMBER = re.compile(r"[+-]?\d+")


class FindingRows(Struct, frozen=True, kw_only=True):
    """The rows with one kind of finding."""

    rows: int
    first: list[int]
    """The numbers of the first SHOWN of them."""


class CleaningFigures(Struct, frozen=True, kw_only=True):
    """The rows of a part as they were read, and as they were kept."""

    read: int
    kept: int
    findings: dict[str, FindingRows]
    """By kind."""
    per_label: dict[str, int]
    """Rows kept."""


@dataclass
class CleaningReport:
    """The findings of cleaning: `counts` per kind, and the first row numbers of each."""

    read: int = 0
    kept: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[int]] = field(default_factory=dict)
    per_label: Counter[str] = field(default_factory=Counter)

    def note(self, kind: str, number: int) -> None:
        """Count a finding, and keep its row's number where few are kept."""
        self.counts[kind] += 1
        if len(shown := self.examples.setdefault(kind, [])) < SHOWN:
            shown.append(number)

    def figures(self) -> CleaningFigures:
        """Return the report as it is recorded."""
        return CleaningFigures(
            read=self.read,
            kept=self.kept,
            findings={kind: FindingRows(rows=n, first=self.examples[kind]) for kind, n in sorted(self.counts.items())},
            per_label=dict(sorted(self.per_label.items())),
        )

    def lines(self) -> list[str]:
        """Return the report for a person, a finding a line."""
        lines = [
            f"  {kind}: {n:,} (rows {', '.join(map(str, self.examples[kind]))}{', …' if n > SHOWN else ''})"
            for kind, n in sorted(self.counts.items())
        ]
        labels = ", ".join(f"{name} {n:,}" for name, n in sorted(self.per_label.items()))
        return [f"{self.read:,} rows read, {self.kept:,} kept ({labels})", *lines]


class LabelReader:
    """Understands a raw label as a name, or as a number counted from `first`.

    Where `first` is negative, or a name is a number itself, numbers are names like any other: the labels 1, 2 and 3 of
    one file and 0, 1 and 2 of another are not the same three.

    Raises:
        DataError: there are fewer than two names, or one stands twice.
    """

    def __init__(self, names: list[str], first: int = 0) -> None:
        if len(names) < 2:
            raise DataError(f"labels {names} were found; a classifier needs at least two")
        if duplicates := [name for name, n in Counter(names).items() if n > 1]:
            raise DataError(f"label {duplicates[0]!r} stands twice in the recipe's labels")
        self.names = names
        self._index = {name: i for i, name in enumerate(names)}
        if first >= 0 and not any(_NUMBER.fullmatch(name) for name in names):
            self._index |= {str(first + i): i for i in range(len(names))}

    @classmethod
    def of(cls, rows: Iterable[RawRow]) -> "LabelReader":
        """Take the distinct raw labels, sorted.

        Raises:
            DataError: one cannot be a name.
        """
        return cls(sorted({_label(row) for row in rows} - {""}))

    def index(self, raw: str) -> int | None:
        """Return the place of a raw label, None where it is none of them."""
        return self._index.get(raw.strip())

    def soft(self, row: RawRow) -> tuple[float, ...]:
        """Return a row's probability of each label; none where its label is certain.

        Raises:
            DataError: it has a probability of another label.
        """
        if not row.soft:
            return ()
        if strange := row.soft.keys() - self._index.keys():
            raise DataError(f"row {row.number}: a probability of {min(strange)!r}, which is none of {self.names}")
        return tuple(row.soft.get(name, 0.0) for name in self.names)


def look_alike(names: list[str]) -> list[list[str]]:
    """Return the groups of labels that differ by case, accents, spaces or punctuation alone, or in their encoding.

    Two of them are mostly one label, spelled twice.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        plain = normalize("NFKD", name).casefold()
        letters = "".join(character for character in plain if character.isalnum()) or plain
        groups.setdefault(letters, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _label(row: RawRow) -> str:
    """Return the row's label. Raises DataError for one with a control character, or that is not UTF-8."""
    label = row.label.strip()
    if not label.isprintable():
        undecodable = any("\ud800" <= character <= "\udfff" for character in label)
        if undecodable:
            why = "is not UTF-8: save the file as UTF-8"
        elif any(category(character) == "Cc" for character in label):
            why = "has a line break or another control character in it: is a quote missing?"
        else:
            return label
        raise DataError(f"row {row.number}: the label {label[:80]!r} {why}")
    return label


def clean_rows(
    rows: Iterable[RawRow],
    labels: LabelReader,
    *,
    eligible: Callable[[RawRow], bool] = lambda row: True,
    held_out: Iterable[str] = (),
    drop_duplicates: bool = True,
) -> tuple[list[Row], CleaningReport]:
    """Clean every text; drop what cannot be learned from: undecodable, empty, wrongly labelled, said twice.

    Texts that stand under two labels are dropped whole. Of a text that was corrected (a row of callers' feedback, with
    CORRECTED_AT) the last correction counts, and no other row.

    Args:
        rows: as they were read
        labels: that rows may have
        eligible: says whether a row may be validated on
        held_out: texts that are dropped: the test split's
        drop_duplicates: whether repeated rows go; a test split keeps all its own

    Raises:
        DataError: a label is no name, no row is left, or, in a test split, `labels` does not know one.
    """
    report, kept, labels_of = CleaningReport(), {}, {}
    result: list[Row] = []
    barred = {text.casefold() for text in held_out}
    conflicts: set[str] = set()
    corrected: dict[str, str] = {}
    unknown: dict[str, int] = {}
    for raw in rows:
        report.read += 1
        for kind, matches in _ARTEFACTS.items():
            if matches(raw.text):
                report.note(f"cleaned_{kind}", raw.number)
        if not raw.text.isascii() and any("\ud800" <= c <= "\udfff" for c in raw.text):
            report.note("dropped_undecodable", raw.number)
            continue
        label = labels.index(_label(raw))
        if label is None:
            report.note("dropped_wrong_label", raw.number)
            if raw.label.strip() and not drop_duplicates:
                unknown.setdefault(raw.label.strip(), raw.number)
            continue
        text = clean(raw.text)
        if not text:
            report.note("dropped_empty", raw.number)
            continue
        title = clean(raw.cells.get(TITLE, ""))
        row, key = Row(text, label, eligible(raw), title if text.startswith(f"{title} ") else ""), text.casefold()
        row = replace(row, weight=float(raw.cells.get(WEIGHT, 1)), soft=labels.soft(raw))
        corrected_at = raw.cells.get(CORRECTED_AT, "")
        if not drop_duplicates:
            result.append(row)
        elif key in barred:
            report.note("dropped_in_test", raw.number)
        elif key not in kept or (corrected_at and corrected_at >= corrected[key]):
            if key in kept:
                report.note("corrected", raw.number)
            kept[key], labels_of[key], corrected[key] = row, label, corrected_at
            conflicts.discard(key)
        elif corrected[key]:
            report.note("dropped_corrected", raw.number)
        elif labels_of[key] != label:
            report.note("dropped_two_labels", raw.number)
            conflicts.add(key)
        else:
            report.note("dropped_duplicate", raw.number)
    if unknown:
        raise DataError(_unknown(unknown, labels))
    if drop_duplicates:
        result = [row for key, row in kept.items() if key not in conflicts]
    report.kept = len(result)
    report.per_label.update(labels.names[row.label] for row in result)
    if not result:
        raise DataError("no row is left to learn from:\n" + "\n".join(report.lines()))
    return result, report


def _unknown(unknown: dict[str, int], labels: LabelReader) -> str:
    shown = ", ".join(f"{name!r} (row {number})" for name, number in [*unknown.items()][:SHOWN])
    return (
        f"the test rows have labels that training does not know: {shown}{', …' if len(unknown) > SHOWN else ''}; it "
        f"knows {', '.join(map(repr, labels.names))}. Where the labels are numbers that count the recipe's, say from "
        "which one with --first-label."
    )

"""Part rows into train and validation, by content, so that the same rows land on the same side in every build."""

import hashlib
import random
from collections import Counter, defaultdict

from newsdesk.build.data.rows import Row
from newsdesk.build.errors import DataError


def split(rows: list[Row], validation_rows: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Return (train, validation), validation stratified by label and drawn from the eligible rows.

    A row's place is decided by a hash of its text and the seed: adding rows moves few others. Where
    `validation_rows` is more than a fifth of the rows, a fifth is taken.

    Raises:
        DataError: a label has too few rows to validate on.
    """
    wanted = min(validation_rows, len(rows) // 5)
    shares = Counter(row.label for row in rows)
    eligible: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        if row.eligible:
            eligible[row.label].append(row)
    chosen: set[str] = set()
    for label, count in shares.items():
        quota = max(1, round(wanted * count / len(rows)))
        if len(eligible[label]) < quota or count <= quota:
            raise DataError(
                f"label number {label} has {len(eligible[label])} rows to validate on, of {count}; {quota} are wanted. "
                "Give more rows of it, or ask for fewer validation rows (split.validation_rows)."
            )
        eligible[label].sort(key=lambda row: _place(row, seed))
        chosen.update(row.text for row in eligible[label][:quota])
    return [row for row in rows if row.text not in chosen], [row for row in rows if row.text in chosen]


def draw(rows: list[Row], count: int, seed: int) -> list[Row]:
    """Return `count` of the rows, in their order; fewer of the same rows are a part of more."""
    drawn = {row.text for row in sorted(rows, key=lambda row: _place(row, seed))[:count]}
    return [row for row in rows if row.text in drawn]


def shuffled(rows: list[Row], count: int, seed: int) -> list[Row]:
    """Return `count` of the rows in an order of chance, the same ones in every build with this seed."""
    drawn = [*rows]
    random.Random(seed).shuffle(drawn)
    return drawn[:count]


def _place(row: Row, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{row.text}".encode()).digest()

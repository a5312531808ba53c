"""Errors of a whole file of rows, with the options of its reader that mend it."""

from dataclasses import dataclass


class RowsError(Exception):
    """A file that cannot be read as rows, or not further than this."""


class UnknownKind(RowsError):
    """A file of a kind that nobody reads here."""


@dataclass(frozen=True)
class Words:
    """The options of whoever reads, as messages name them."""

    column: str = "--text-column"
    delimiter: str = "--delimiter"
    form: str = "--input-format"

"""Files of texts: which form they are in, and their texts, a few at a time, however large they are."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import PurePath
from typing import BinaryIO, NamedTuple

from newsdesk.clients import rows
from newsdesk.clients.rows import Reader, RowRefusal, RowsError, UnknownKind, Words
from newsdesk.server.gateway.problems import Invalid, Unsupported
from newsdesk.server.gateway.questions import Text

_BATCH = 2**20
"""Bytes of a batch, but for its last text."""
_WORDS = Words(column="?column=…", delimiter="?delimiter=…", form="?format=…")


class UploadedRow(NamedTuple):
    """A row of a file: the line that it begins in (0: no lines), and its text or why there is none."""

    line: int
    text: Text | RowRefusal


class FileForm(StrEnum):
    """The forms that a file may be in."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"


_TYPES = {
    "text/csv": FileForm.csv,
    "application/csv": FileForm.csv,
    "application/x-ndjson": FileForm.jsonl,
    "application/jsonl": FileForm.jsonl,
    "application/jsonlines": FileForm.jsonl,
    "application/vnd.apache.parquet": FileForm.parquet,
}
_SUFFIXES = {
    ".csv": FileForm.csv,
    ".tsv": FileForm.csv,
    ".jsonl": FileForm.jsonl,
    ".ndjson": FileForm.jsonl,
    ".parquet": FileForm.parquet,
}


def form_of(wanted: FileForm | None, content_type: str, name: str) -> FileForm:
    """Return the form that was asked for, else that of the name, else that of the type.

    Raises:
        Unsupported: none of them says it.
    """
    plain = PurePath(name.lower().removesuffix(".gz"))
    form = wanted or _SUFFIXES.get(plain.suffix) or _TYPES.get(content_type)
    if form is None:
        raise Unsupported(
            f"The file is {content_type or 'untyped'!r:.80}; expected text/csv, application/x-ndjson or "
            "application/vnd.apache.parquet, or ?format=csv, jsonl or parquet."
        )
    return form


def batches(
    file: BinaryIO, form: FileForm, columns: Sequence[str], delimiter: str, size: int
) -> Iterator[list[UploadedRow]]:
    """Yield the file's texts, `size` at a time, and fewer of long ones. A row that is none has a Refusal in its place.

    Args:
        file: is read to its end
        form: of the file
        columns: of the text, joined by a space
        delimiter: of a CSV's cells; empty: recognised
        size: texts of a batch at most

    Raises:
        Invalid: the file cannot be read; behind what came before it.
        Unsupported: the file is of another kind.
    """
    batch: list[UploadedRow] = []
    held = 0
    try:
        reader = Reader(file, "the file", form=rows.Form(form), columns=columns, delimiter=delimiter, words=_WORDS)
        for text in reader.texts():
            batch.append(UploadedRow(reader.line, text))
            held += 0 if isinstance(text, RowRefusal) else len(text)
            if len(batch) == size or held > _BATCH:
                yield batch
                batch, held = [], 0
    except RowsError as error:
        if batch:
            yield batch
        raise (Unsupported if isinstance(error, UnknownKind) else Invalid)(str(error)) from error
    if batch:
        yield batch

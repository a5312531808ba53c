"""Files of texts: which form they are in, and their texts, a few at a time, however large they are."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import PurePath
from typing import Any, BinaryIO, cast

from newsdesk.clients.cli.sources import Source, SourceError
from newsdesk.server.gateway.plane import Text
from newsdesk.server.gateway.problems import Invalid, Unsupported

_LONGEST_LINE = 16 * 2**20
_ROWS = 256


class Form(StrEnum):
    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"


_TYPES = {
    "text/csv": Form.csv,
    "application/csv": Form.csv,
    "application/x-ndjson": Form.jsonl,
    "application/jsonl": Form.jsonl,
    "application/jsonlines": Form.jsonl,
    "application/vnd.apache.parquet": Form.parquet,
}
_SUFFIXES = {".csv": Form.csv, ".jsonl": Form.jsonl, ".ndjson": Form.jsonl, ".parquet": Form.parquet}


def form_of(given: Form | None, content_type: str, name: str) -> Form:
    """Return the form that was asked for, else that of the name, else that of the type. Raises Unsupported."""
    form = given or _SUFFIXES.get(PurePath(name).suffix.lower()) or _TYPES.get(content_type)
    if form is None:
        raise Unsupported(
            f"The file is {content_type or 'untyped'!r:.80}; expected text/csv, application/x-ndjson or "
            "application/vnd.apache.parquet, or ?format=csv, jsonl or parquet."
        )
    return form


def batches(file: BinaryIO, form: Form, columns: Sequence[str], size: int) -> Iterator[list[Text]]:
    """Yield the file's texts, `size` at a time. Raises Invalid, behind what came before it, for another form."""
    batch: list[Text] = []
    try:
        if form is Form.parquet:
            texts: Iterator[Text] = _parquet(file, columns)
        else:
            texts = iter(Source(cast(BinaryIO, Lines(file)), f"file.{form}", columns))
        for text in texts:
            batch.append(text)
            if len(batch) == size:
                yield batch
                batch = []
    except SourceError as error:
        if batch:
            yield batch
        raise Invalid(str(error).replace("--text-column", "?column=…")) from error
    if batch:
        yield batch


class Lines:
    """A binary file whose lines are bounded, so that none fills the memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seekable, self.seek = file.seekable, file.seek

    def __iter__(self) -> Iterator[bytes]:
        while line := self._file.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:
                raise SourceError(f"a line is longer than {_LONGEST_LINE // 2**20} MiB")
            yield line


def _parquet(file: BinaryIO, columns: Sequence[str]) -> Iterator[Text]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        raise Unsupported("Parquet needs pyarrow, which is not installed here: pip install pyarrow.") from None
    try:
        opened = parquet.ParquetFile(file)
        names = list(columns or ["text"])
        schema = opened.schema_arrow
        missing = [name for name in names if name not in schema.names]
        if missing:
            raise SourceError(
                f"no column {', '.join(missing)} among {', '.join(schema.names)}: name one with --text-column"
            )
        for name in names:
            if not _is_text(schema.field(name).type, arrow):
                raise SourceError(f"column {name} is {schema.field(name).type}, expected text")
        for batch in opened.iter_batches(_ROWS, columns=names, use_threads=False):
            held = [batch.column(name).to_pylist() for name in names]
            for row in zip(*held, strict=True):
                yield " ".join(value or "" for value in row)
    except (arrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise SourceError(f"not a Parquet file that can be read: {str(error)[:200]}") from error


def _is_text(type: Any, arrow: Any) -> bool:
    kinds = arrow.types
    if kinds.is_dictionary(type):
        type = type.value_type
    return bool(kinds.is_string(type) or kinds.is_large_string(type) or kinds.is_string_view(type))

"""How scored rows are written: each chunk as a part, and the parts as one file, of the form that was read.

The columns of the input stay, and those of the answer come after them, called as `classify` calls them.
"""

import csv
import io
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from newsdesk.clients.rows import Form, RowRefusal, RowsError
from newsdesk.server.scoring.answers import ScoredTexts
from newsdesk.server.scoring.chunks import RowChunk

SUFFIXES = {
    ".csv": Form.csv,
    ".tsv": Form.csv,
    ".jsonl": Form.jsonl,
    ".ndjson": Form.jsonl,
    ".parquet": Form.parquet,
}
"""The files that are scored, by their names, behind which .gz may stand."""
_GROUP_ROWS, _GROUP_BYTES = 64 * 1024, 64 * 2**20
"""The limits of a row group of the Parquet file that is written: it takes the parts' rows until one is reached."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_UNCERTAINTY = "uncertainty", "of_data", "of_model"


@dataclass(frozen=True)
class Style:
    """The columns that are added, and their names.

    Attributes:
        labels: of the model, in its order
        levels: the names of those who answer
        prefix: of the added columns' names
        uncertainty: whether they say how uncertain an answer is
    """

    labels: Sequence[str]
    levels: Sequence[str]
    prefix: str = ""
    uncertainty: bool = False

    @property
    def names(self) -> list[str]:
        """The added columns of CSV and Parquet."""
        own = ["label", *self.labels, "answered_by", "windows", "error", "unsure"]
        return [self.prefix + name for name in (*own, *(_UNCERTAINTY if self.uncertainty else ()))]

    def check(self, kept: Sequence[str], added: Sequence[str]) -> None:
        """Check that no column of the input (`kept`) is called as one that is `added`.

        Raises:
            RowsError: one is.
        """
        if both := sorted(set(kept) & set(added)):
            raise RowsError(
                f"the input has a column {both[0]!r}, as an answer has: choose how those of the answers begin, as "
                "--prefix newsdesk_"
            )


def form_of(name: str) -> Form | None:
    """Return the form that a file's name says, None where it is none of those that are scored."""
    plain = name.lower().removesuffix(".gz")
    return next((form for suffix, form in SUFFIXES.items() if plain.endswith(suffix)), None)


def merged(chunk: RowChunk, answers: ScoredTexts) -> dict[int, str]:
    """Return why rows of a chunk have no answer, by their places: those refused on reading, and those refused later."""
    return answers.errors | {
        place: text.reason for place, text in enumerate(chunk.texts) if isinstance(text, RowRefusal)
    }


def part(form: Form, name: str, chunk: RowChunk, answers: ScoredTexts, style: Style) -> bytes:
    """Return a chunk with its answers, as bytes that `join` takes.

    Args:
        form: of the file
        name: of the file that is written: .tsv has tabs
        chunk: its rows
        answers: to its texts
        style: of the added columns

    Raises:
        RowsError: columns of both have the same name, or two of the input.
    """
    if form is Form.parquet:
        return _arrow(chunk, answers, style)
    if form is Form.jsonl:
        return _jsonl(chunk, answers, style)
    return _csv(chunk, answers, style, "\t" if name.lower().removesuffix(".gz").endswith(".tsv") else ",")


def join(form: Form, parts: Iterator[BinaryIO], out: BinaryIO) -> None:
    """Write the parts of a file, in their order, as one file."""
    if form is Form.parquet:
        _join_arrow(parts, out)
        return
    for file in parts:
        with file:
            shutil.copyfileobj(file, out)


def _jsonl(chunk: RowChunk, answers: ScoredTexts, style: Style) -> bytes:
    errors, lines = merged(chunk, answers), []
    for place, cells in enumerate(chunk.rows):
        kept = {name: _readable(value) for name, value in cells.items()}
        added = {style.prefix + name: value for name, value in _answer(place, answers, errors, style).items()}
        style.check(list(kept), [*added, style.prefix + "error", style.prefix + "label"])
        lines.append(json.dumps(kept | added) + "\n")
    return "".join(lines).encode()


def _answer(place: int, answers: ScoredTexts, errors: Mapping[int, str], style: Style) -> dict[str, Any]:
    """Return an answer as a line of `classify --json` has it, without its index."""
    if place in errors:
        return {"error": errors[place]}
    row = answers.probabilities[place].tolist()
    ranked = sorted(zip(style.labels, row, strict=True), key=lambda pair: pair[1], reverse=True)
    answer = {
        "label": ranked[0][0],
        "probabilities": dict(ranked),
        "answered_by": style.levels[answers.levels[place]],
        "windows": int(answers.windows[place]),
    }
    if answers.unsure is not None:
        answer["unsure"] = bool(answers.unsure[place])
    if style.uncertainty:
        answer["uncertainty"] = dict(zip(("total", "data", "model"), answers.uncertainty[place].tolist(), strict=True))
    return answer


def _csv(chunk: RowChunk, answers: ScoredTexts, style: Style, delimiter: str) -> bytes:
    names, errors = chunk.names, merged(chunk, answers)
    style.check(names, style.names)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RowsError(f"column {twice[0]} stands {names.count(twice[0])} times in the header: rename all but one")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", delimiter=delimiter)
    if not chunk.number:
        writer.writerow([*names, *style.names])
    for place, cells in enumerate(chunk.rows):
        kept = [cells.get(name, "") for name in names]
        writer.writerow([*kept, *map(_neutral, _cells(place, answers, errors, style))])
    return text.getvalue().encode("utf-8", "surrogateescape")


def _cells(place: int, answers: ScoredTexts, errors: Mapping[int, str], style: Style) -> list[object]:
    if place in errors:
        empty = len(_UNCERTAINTY) if style.uncertainty else 0
        return ["", *("" for _ in style.labels), "", "", errors[place], "", *[""] * empty]
    answer = _answer(place, answers, errors, style)
    shares = answer["probabilities"]
    cells = [answer["label"], *(shares[label] for label in style.labels), answer["answered_by"], answer["windows"], ""]
    cells.append(str(answer["unsure"]).lower() if "unsure" in answer else "")
    return [*cells, *answer.get("uncertainty", {}).values()]


def _arrow(chunk: RowChunk, answers: ScoredTexts, style: Style) -> bytes:
    import pyarrow

    errors = merged(chunk, answers)
    style.check(chunk.rows.schema.names, style.names)
    good = [place not in errors for place in range(len(chunk.texts))]

    def column(values: Sequence[Any], kind: Any) -> Any:
        return pyarrow.array([value if ok else None for value, ok in zip(values, good, strict=True)], kind)

    best = answers.probabilities.argmax(-1)
    columns = [column([style.labels[place] for place in best], pyarrow.string())]
    columns += [column(answers.probabilities[:, at].tolist(), pyarrow.float32()) for at in range(len(style.labels))]
    columns.append(column([style.levels[level] for level in answers.levels], pyarrow.string()))
    columns.append(column(answers.windows.tolist(), pyarrow.int32()))
    columns.append(pyarrow.array([errors.get(place) for place in range(len(good))], pyarrow.string()))
    unsure = [None] * len(good) if answers.unsure is None else answers.unsure.tolist()
    columns.append(column(unsure, pyarrow.bool_()))
    if style.uncertainty:
        columns += [column(answers.uncertainty[:, at].tolist(), pyarrow.float32()) for at in range(3)]
    table = pyarrow.Table.from_batches([chunk.rows])
    for name, values in zip(style.names, columns, strict=True):
        table = table.append_column(name, values)
    sink = io.BytesIO()
    with pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _join_arrow(parts: Iterator[BinaryIO], out: BinaryIO) -> None:
    import pyarrow
    from pyarrow import parquet

    writer: Any = None
    held: list[Any] = []

    def write() -> None:
        writer.write_table(pyarrow.concat_tables(held).combine_chunks(), row_group_size=_GROUP_ROWS)
        held.clear()

    for file in parts:
        with file:
            table = pyarrow.ipc.open_file(file.read()).read_all()
        writer = writer or parquet.ParquetWriter(out, table.schema, compression="zstd")
        held.append(table)
        if sum(table.num_rows for table in held) >= _GROUP_ROWS or sum(table.nbytes for table in held) >= _GROUP_BYTES:
            write()
    if held:
        write()
    if writer:
        writer.close()


def _readable(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _neutral(cell: object) -> object:
    """Keep a spreadsheet from taking what newsdesk writes for a formula. The input's own cells stay as they are."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell

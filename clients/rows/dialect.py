"""Tell what parts the cells of a CSV file: said by the file or its reader, or recognised; never guessed."""

import csv
import re
from collections.abc import Sequence

from newsdesk.clients.rows.errors import RowsError, Words
from newsdesk.clients.rows.lines import Line, Lines

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_NAMES = {name: delimiter for delimiter, name in DELIMITERS.items()} | {"\\t": "\t"}
_SEPARATOR = re.compile(r'"?sep=(.)"?\s*\Z', re.IGNORECASE | re.DOTALL)
_SAMPLE = 20
_SAMPLE_BYTES = 256 * 1024
_ALIKE = 0.9
"""Share of the first rows that have as many cells as the header."""
TEXT = "text"


def delimiter_of(name: str) -> str:
    """Return the delimiter of a name or a character.

    Raises:
        RowsError: it is no single character, or a quote or a line end.
    """
    delimiter = _NAMES.get(name.lower(), name)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise RowsError(f"the delimiter is {name!r}, expected one character, or {', '.join(DELIMITERS.values())}")
    return delimiter


def separator_line(lines: Lines) -> str:
    """Read past the first line where that is Excel's `sep=;`, and return the delimiter that it says, or ""."""
    first = lines.peek(1)
    match = _SEPARATOR.match(_text(first[0])) if first else None
    if match is None:
        return ""
    next(lines)
    return match[1]


def recognise(lines: Lines, columns: Sequence[str], header: Sequence[str], words: Words) -> str:
    """Return the delimiter of a file, by its header and its first rows.

    Args:
        lines: of the file, which stay to be read
        columns: that will be read
        header: the names of a file without a header line
        words: what messages call the options

    Raises:
        RowsError: the file can be read in more than one way.
    """
    first = lines.peek(1)
    if not first:
        return ","
    names = {delimiter: _cells([_text(first[0])], delimiter)[0] for delimiter in DELIMITERS}
    wanted = [TEXT] if not columns else list(columns)
    if not header:
        holding = [delimiter for delimiter, cells in names.items() if set(wanted) <= {*cells}]
        if len(holding) == 1:
            return holding[0]
    sample = [_text(line) for line in _some(lines)]
    alike = {delimiter: _alike(sample, delimiter, len(header)) for delimiter in DELIMITERS}
    parted = [delimiter for delimiter in DELIMITERS if alike[delimiter] > 1]
    if header and len(header) > 1:
        if not parted:
            raise RowsError(_unclear(f"no delimiter parts its rows into the {len(header)} cells of its columns", words))
        return parted[0]
    if parted:
        return max(parted, key=alike.__getitem__)
    if header:
        return ","
    return _single(names, wanted, words)


def _single(names: dict[str, list[str]], wanted: list[str], words: Words) -> str:
    """Return a delimiter for a file of one column. Raises RowsError where its name may be the names of several."""
    several = [delimiter for delimiter, cells in names.items() if len(cells) > 1]
    (whole,) = names[","] if len(names[","]) == 1 else [""]
    if several and not whole:
        return ","
    if several:
        shown = DELIMITERS[several[0]]
        raise RowsError(_unclear(f"its header {whole[:80]!r} is one column, or several parted by a {shown}", words))
    if whole not in wanted and set(wanted) & {*re.split(r"[^\w ]", whole)}:
        raise RowsError(_unclear(f"its header {whole[:80]!r} is parted by no comma, semicolon, tab or pipe", words))
    return ","


def _unclear(why: str, words: Words) -> str:
    return f"{why}: say what parts its cells with {words.delimiter}"


def _some(lines: Lines) -> list[Line]:
    """Return the first lines, without more of them than a sample needs."""
    ahead = lines.peek(1 + _SAMPLE)
    size = 0
    for place, line in enumerate(ahead):
        size += line.size
        if size > _SAMPLE_BYTES:
            return ahead[: max(place, 1)]
    return ahead


def _alike(sample: list[str], delimiter: str, expected: int) -> int:
    """Return how many cells the first rows have, where nearly all have as many; 0 elsewhere."""
    records = [cells for cells in _cells(sample, delimiter) if cells]
    count = expected or len(records[0])
    rows = records if expected else records[1:]
    if len(rows) > 1 and len(sample) > _SAMPLE:
        rows = rows[:-1]  # the sample may end within it
    same = sum(len(cells) == count for cells in rows)
    return count if same >= _ALIKE * len(rows) else 0


def _cells(texts: list[str], delimiter: str) -> list[list[str]]:
    try:
        return list(csv.reader(texts, delimiter=delimiter)) or [[""]]
    except csv.Error:  # a carriage return in the middle, or a cell beyond all bounds
        return [[texts[0]]]


def _text(line: Line) -> str:
    return line.data.decode("utf-8", "surrogateescape")

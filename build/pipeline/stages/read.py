"""Read the sources: `<part>.jsonl`, a raw row a line, with what decides later whether it may validate."""

import json
from pathlib import Path

from newsdesk.build.data import sources
from newsdesk.build.errors import DataError
from newsdesk.build.pipeline.artifacts import Say
from newsdesk.build.recipe import Source, Where
from newsdesk.server.contract import CORRECTED_AT


def read(
    folder: Path, say: Say, *, train: Source, more: list[Source], test: Source | None, validation_where: Where
) -> dict[str, int]:
    """Read the rows of a recipe's data; `more` are further training rows.

    Returns:
        Rows read, by part ("train" and, where there is such a source, "test").

    Raises:
        DataError: a source cannot be read, or holds no row.
    """
    counts: dict[str, int] = {}
    parts = {"train": [train, *more]} | ({"test": [test]} if test else {})
    for part, of_part in parts.items():
        counts[part] = 0
        with (folder / f"{part}.jsonl").open("w", encoding="utf-8") as out:
            for source in of_part:
                count = 0
                for count, row in enumerate(sources.read(source), start=1):  # noqa: B007
                    eligible = sources.matches(row.cells, validation_where)
                    line = [
                        row.number,
                        row.text,
                        row.label,
                        eligible,
                        sources.title(source, row),
                        source.weight,
                        row.soft,
                        row.cells.get(CORRECTED_AT, ""),
                    ]
                    out.write(json.dumps(line) + "\n")  # ASCII: lone surrogates survive
                if not count:
                    raise DataError(f"{source.file or source.hub}: no row (that matches {source.keep})")
                counts[part] += count
    return counts

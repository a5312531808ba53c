"""Rows on disk: Parquet with a column for each field of a row, and beside it the names of the labels."""

import json
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from newsdesk.build.data.rows import Row

LABELS = "labels.json"


def write(path: Path, rows: list[Row]) -> None:
    """Write rows as Parquet."""
    columns = {
        "text": pa.array([row.text for row in rows], pa.string()),
        "label": pa.array([row.label for row in rows], pa.int32()),
        "eligible": pa.array([row.eligible for row in rows], pa.bool_()),
        "title": pa.array([row.title for row in rows], pa.string()),
        "view": pa.array([row.view for row in rows], pa.string()),
        "group": pa.array([row.group for row in rows], pa.int32()),
        "weight": pa.array([row.weight for row in rows], pa.float64()),
    }
    if any(row.soft for row in rows):  # else files stay as they were, and so do the keys of what is made of them
        columns["soft"] = pa.array([list(row.soft) for row in rows], pa.list_(pa.float64()))
    pq.write_table(pa.table(columns), path, compression="zstd")


def read(path: Path) -> list[Row]:
    """Read the rows that `write` wrote."""
    return [Row(**row | {"soft": tuple(row.get("soft", ()))}) for row in pq.read_table(path).to_pylist()]


def write_labels(folder: Path, names: list[str]) -> None:
    """Write the label names, in the order of the outputs, beside rows."""
    (folder / LABELS).write_text(json.dumps(names), encoding="utf-8")


def read_labels(folder: Path) -> list[str]:
    """Return the label names, in the order of the outputs, of a folder of rows."""
    return msgspec.json.decode((folder / LABELS).read_bytes(), type=list[str])

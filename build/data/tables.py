"""Rows on disk: Parquet with a column for each field of a row."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from newsdesk.build.data.rows import Row


def write(path: Path, rows: list[Row]) -> None:
    columns = {
        "text": pa.array([row.text for row in rows], pa.string()),
        "label": pa.array([row.label for row in rows], pa.int32()),
        "eligible": pa.array([row.eligible for row in rows], pa.bool_()),
        "title": pa.array([row.title for row in rows], pa.string()),
        "view": pa.array([row.view for row in rows], pa.string()),
        "group": pa.array([row.group for row in rows], pa.int32()),
        "weight": pa.array([row.weight for row in rows], pa.float64()),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def read(path: Path) -> list[Row]:
    return [Row(**row) for row in pq.read_table(path).to_pylist()]

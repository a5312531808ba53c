"""Rows on disk: Parquet with columns text (string), label (int32), eligible (bool)."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from newsdesk.build.data.cleaning import Row


def write(path: Path, rows: list[Row]) -> None:
    columns = {
        "text": pa.array([row.text for row in rows], pa.string()),
        "label": pa.array([row.label for row in rows], pa.int32()),
        "eligible": pa.array([row.eligible for row in rows], pa.bool_()),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def read(path: Path) -> list[Row]:
    return [Row(**row) for row in pq.read_table(path).to_pylist()]

"""Leave out the rows that are likeliest to be labelled wrong: the members that serve are fitted on the others."""

import shutil
from pathlib import Path

from newsdesk.build.data import suspects, tables
from newsdesk.build.pipeline.artifacts import ENTRY, Artifact, Say


def drop(folder: Path, say: Say, *, rows: Artifact, select: Artifact, share: float) -> dict[str, int]:
    """Leave the files of `rows`, an artifact of `split`, with fewer training rows.

    Args:
        folder: where the files go
        say: shows a line
        rows: the artifact of `split`
        select: the artifact of `select`, which lists the rows
        share: how much of the training rows is dropped, at most
    """
    every = tables.read(rows / "train.parquet")
    listed = {*suspects.texts(select / suspects.FILE)[: round(share * len(every))]}
    kept = [row for row in every if row.text not in listed]
    for path in rows.path.iterdir():
        if path.name not in ("train.parquet", ENTRY):
            shutil.copyfile(path, folder / path.name)
    tables.write(folder / "train.parquet", kept)
    return {"train": len(kept), "dropped": len(every) - len(kept)}

"""What teachers say about the training rows, and about pieces of them, for a member that is distilled."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from newsdesk.build.compile.predict import probabilities
from newsdesk.build.compile.stages import Job
from newsdesk.build.data import pieces
from newsdesk.build.data.cleaning import Row
from newsdesk.build.stage import Artefact, machine
from newsdesk.server.ensemble import engines

ROWS = "rows.npy"
PIECES = "pieces.parquet"
OF_PIECES = "pieces.npy"


@dataclass(frozen=True)
class Taught:
    """What teachers say: probabilities of the rows, FP32 [rows, labels], and of texts that nobody labelled."""

    rows: np.ndarray
    texts: list[str]
    of_texts: np.ndarray


def teach(pupil: Job, teachers: list[Job]) -> Artefact:
    """Ask compiled teachers about every training row, and about pieces where the pupil's recipe has them.

    Leaves the mean of their probabilities: rows.npy, FP32 [rows, labels], pieces.npy, and the pieces' texts. Each is
    asked in the precision that serves, and what it has said before an interruption is not asked again.
    """
    with_pieces = pupil.member.kind == "ngrams" and pupil.member.student.pieces

    def work(folder: Path) -> dict[str, Any]:
        rows = pupil.rows("train")
        texts = pieces.cut(rows, pupil.recipe.seed) if with_pieces else []
        asked = [*rows, *(Row(text, 0) for text in texts)]
        (folder / "scratch").mkdir(exist_ok=True)
        said = []
        for teacher in teachers:
            saved = folder / "scratch" / f"{teacher.member.name}.npy"
            if not saved.exists():
                target = teacher.choice["target"]
                engine = engines.load(target, teacher.graphs[engines.TARGETS[target]])
                answers = probabilities(engine, teacher.encode(asked), f"{teacher.member.name} teaches")
                with saved.open("wb") as file:
                    np.save(file, answers.astype(np.float32))
            said.append(np.load(saved))
        mean = np.mean(said, axis=0, dtype=np.float32)
        np.save(folder / ROWS, mean[: len(rows)])
        np.save(folder / OF_PIECES, mean[len(rows) :])
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), folder / PIECES, compression="zstd")
        right = mean[: len(rows)].argmax(-1) == [row.label for row in rows]
        return {"rows": len(rows), "pieces": len(texts), "accuracy_on_training_rows": float(right.mean())}

    inputs = {"split": pupil.made["split"]}
    for teacher in teachers:
        inputs |= {f"{teacher.member.name}.{stage}": teacher.made[stage] for stage in ("export", "quantise", "compile")}
    return pupil.shop.run(
        "teach",
        work,
        settings=[with_pieces, pupil.recipe.seed, machine()],
        inputs=inputs,
        code=("newsdesk.build.data.pieces",),
        name=pupil.member.name,
    )


def load(taught: Artefact) -> Taught:
    texts = pq.read_table(taught / PIECES).column("text").to_pylist()
    return Taught(np.load(taught / ROWS), texts, np.load(taught / OF_PIECES))

"""What teachers say about the training rows, about pieces of them and about other texts, for a member to learn from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from newsdesk.build.compile.predict import probabilities
from newsdesk.build.compile.stages import Job
from newsdesk.build.data import pieces, sources
from newsdesk.build.data.cleaning import Row
from newsdesk.build.recipe import Source
from newsdesk.build.stage import Artefact, machine
from newsdesk.server.ensemble import engines
from newsdesk.server.ensemble.text import clean

ROWS = "rows.npy"
TEXTS = "texts.parquet"
OF_TEXTS = "texts.npy"


@dataclass(frozen=True)
class Taught:
    """What teachers say: probabilities of the rows, FP32 [rows, labels], and of texts that nobody labelled."""

    rows: np.ndarray
    texts: list[str]
    of_texts: np.ndarray
    new: int = 0
    """So many texts, the first ones, are articles of their own; the others are pieces of the rows."""


def teach(pupil: Job, teachers: list[Job]) -> Artefact:
    """Ask compiled teachers about every training row, and about the pieces and texts that the pupil's recipe has.

    Leaves the mean of their probabilities: rows.npy, FP32 [rows, labels], texts.npy, and the texts. Each teacher is
    asked in the precision that serves, and what it has said before an interruption is not asked again.
    """
    with_pieces, source = pupil.member.student.pieces, pupil.member.student.unlabelled

    def work(folder: Path) -> dict[str, Any]:
        rows = pupil.rows("train")
        texts = _unlabelled(pupil, source) if source else []
        new = len(texts)
        texts += pieces.cut(rows, pupil.recipe.seed) if with_pieces else []
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
        np.save(folder / OF_TEXTS, mean[len(rows) :])
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), folder / TEXTS, compression="zstd")
        right = mean[: len(rows)].argmax(-1) == [row.label for row in rows]
        return {
            "rows": len(rows),
            "new": new,
            "pieces": len(texts) - new,
            "accuracy_on_training_rows": float(right.mean()),
        }

    inputs = {"split": pupil.made["split"]}
    for teacher in teachers:
        inputs |= {f"{teacher.member.name}.{stage}": teacher.made[stage] for stage in ("export", "quantise", "compile")}
    return pupil.shop.run(
        "teach",
        work,
        settings=[with_pieces, source, pupil.recipe.seed, machine()],
        inputs=inputs,
        files=(source.file,) if source and source.file else (),
        code=("newsdesk.build.data.pieces", "newsdesk.server.ensemble.text"),
        name=pupil.member.name,
    )


def load(taught: Artefact) -> Taught:
    texts = pq.read_table(taught / TEXTS).column("text").to_pylist()
    return Taught(np.load(taught / ROWS), texts, np.load(taught / OF_TEXTS), taught.figures["new"])


def _unlabelled(pupil: Job, source: Source) -> list[str]:
    """Return the source's clean texts, each once, without those of any split: what is examined is never learned."""
    parts = [part for part in ("train", "validation", "test") if (pupil.made["split"] / f"{part}.parquet").exists()]
    seen = {row.text.casefold() for part in parts for row in pupil.rows(part)}
    found = []
    for raw in sources.read(source):
        text = clean(raw.text)
        # An undecodable byte stands there as a lone surrogate.
        if text and text.casefold() not in seen and not any("\ud800" <= c <= "\udfff" for c in text):
            seen.add(text.casefold())
            found.append(text)
    return found

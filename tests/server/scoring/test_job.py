"""Files are scored once, whatever ends the run in between, and a row that cannot be read stops nothing."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from newsdesk.server.machine import processes
from newsdesk.server.scoring import job
from newsdesk.server.scoring.answers import ScoringModel
from newsdesk.server.scoring.errors import ScoreError
from newsdesk.server.scoring.places import LocalFiles
from tests import tiny
from tests.clients.cli.command import NEWSDESK
from tests.server.scoring import jobs
from tests.server.scoring.jobs import Ended, Here, read, score, texts, write

FORMS = ["csv", "jsonl", "parquet"]
KILLED = """
import json, os, signal, sys
from multiprocessing import active_children
from pathlib import Path
from newsdesk.server.scoring import chunks
from newsdesk.server.scoring.answers import ScoringModel
from newsdesk.server.scoring.job import ScoringJob, run
from newsdesk.server.scoring.local import Processes

class Killed(Processes):
    def answers(self, questions):
        for count, answered in enumerate(super().answers(questions)):
            if count == 2:
                print(json.dumps([child.pid for child in active_children()]), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            yield answered

if __name__ == "__main__":
    chunks.ROWS = int(sys.argv[4])
    model = ScoringModel(Path(sys.argv[3]), "onnxruntime:fp32")
    run(ScoringJob(sys.argv[1], sys.argv[2], model), Killed(model, 2), lambda _: None)
"""


@pytest.mark.parametrize("form", FORMS)
def test_columns_are_kept_and_answers_added(form: str, model: ScoringModel, tmp_path: Path) -> None:
    source, out = write(tmp_path / f"in.{form}"), tmp_path / f"out.{form}"
    outcome = score(source, out, model, uncertainty=True)
    assert (outcome.rows, outcome.refused, outcome.files) == (jobs.ROWS, 0, 1)
    rows = read(out)
    assert [(int(row["id"]), row["text"]) for row in rows] == list(enumerate(texts()))
    for row in rows[:50]:
        shares = row["probabilities"] if form == "jsonl" else {name: float(row[name]) for name in tiny.LABELS}
        assert shares[row["label"]] == max(shares.values())
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert row["answered_by"] in ("bag", "bag+tiny", "bag+tiny+keen")
        assert int(row["windows"]) == 1
    assert not Path(f"{out}.parts").exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_run_that_is_ended_goes_on_and_writes_the_same(form: str, model: ScoringModel, tmp_path: Path) -> None:
    source = write(tmp_path / f"in.{form}")
    score(source, tmp_path / f"whole.{form}", model)
    out = tmp_path / f"out.{form}"
    for most in (0, 1, 2):
        with pytest.raises(Ended):
            score(source, out, model, most)
        assert not out.exists()
    again = score(source, out, model)
    assert (again.rows, again.scored) == (jobs.ROWS, jobs.ROWS - 3 * jobs.CHUNK)
    assert out.read_bytes() == (tmp_path / f"whole.{form}").read_bytes()


def test_a_run_that_is_killed_goes_on_and_its_workers_end_with_it(model: ScoringModel, tmp_path: Path) -> None:
    """kill -9 of the command's process, with two workers, when two chunks of five are kept."""
    source, out = write(tmp_path / "in.parquet"), tmp_path / "out.parquet"
    (tmp_path / "killed.py").write_text(KILLED)
    command = [sys.executable, tmp_path / "killed.py", source, out, model.folder, str(jobs.CHUNK)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    workers = json.loads(ran.stdout)
    assert len(workers) == 2
    while any(Path(f"/proc/{pid}").exists() and processes.find(pid).alive for pid in workers):
        time.sleep(0.02)
    assert not out.exists()
    kept = [int(part.name.split("-")[2]) for part in Path(f"{out}.parts").glob("*.part")]
    assert len(kept) == 2
    again = score(source, out, model)
    assert (again.rows, again.scored) == (jobs.ROWS, jobs.ROWS - sum(kept))
    score(source, tmp_path / "whole.parquet", model)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_run_that_is_ended_while_it_writes_the_whole_file_writes_it_again(
    model: ScoringModel, tmp_path: Path
) -> None:
    source, out = write(tmp_path / "in.csv"), tmp_path / "out.csv"

    def full(*_: Any) -> None:
        raise Ended

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job.forms, "join", full)
        with pytest.raises(Ended):
            score(source, out, model)
    assert not out.exists()
    assert score(source, out, model).scored == 0
    assert len(read(out)) == jobs.ROWS
    # And where it ended behind that, before what it had kept was removed.
    LocalFiles().remove(str(out))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job.Journal, "remove", full)
        with pytest.raises(Ended):
            score(source, out, model)
    assert (score(source, out, model).rows, len(read(out))) == (jobs.ROWS, jobs.ROWS)


def test_a_folder_becomes_a_folder(model: ScoringModel, tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write(source / "a.csv", 30)
    write(source / "deep" / "b.jsonl.gz", 40)
    write(source / "deep" / "c.parquet", 100)
    (source / "_SUCCESS").touch()
    (source / "notes.md").write_text("no rows")
    (source / "broken.parquet").write_bytes(b"PAR1 and nothing else")
    outcome = score(source, out, model)
    assert [reason for reason in outcome.failed if "broken.parquet" in reason] == outcome.failed != []
    assert (outcome.rows, outcome.files) == (170, 3)
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert names == {"a.csv", "deep/b.jsonl", "deep/c.parquet"}
    write(source / "broken.parquet", 10)  # mended, the job goes on
    again = score(source, out, model)
    assert (again.rows, again.scored, again.files, again.failed) == (180, 10, 4, [])
    assert [row["id"] for row in read(out / "broken.parquet")] == list(range(10))


def test_bad_rows_have_an_error_and_stop_nothing(model: ScoringModel, tmp_path: Path) -> None:
    poison = f"minister {tiny.POISON}"
    (tmp_path / "in.csv").write_bytes(f'id,text\n1,shares\n2,\n3,"{poison}"\n4,mat\xff\n5\n6,goal\n'.encode("latin-1"))
    outcome = score(tmp_path / "in.csv", tmp_path / "out.csv", model)
    assert (outcome.rows, outcome.refused) == (6, 4)
    raw = (tmp_path / "out.csv").read_bytes()
    assert b"4,mat\xff," in raw
    lines = raw.decode("latin-1").splitlines()
    assert [bool(line.split(",")[2]) for line in lines[1:]] == [True, False, False, False, False, True]
    for line, reason in zip(lines[2:6], ("empty", "no finite answer", "not UTF-8", "1 cell, expected"), strict=True):
        assert reason in line
    lines = ['{"text": "goal"}', "[]", '"shares"', '{"text": 5}', '{"text": "\\ud800"}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    score(tmp_path / "in.jsonl", tmp_path / "out.jsonl", model)
    rows = read(tmp_path / "out.jsonl")
    assert [row.get("label") for row in rows] == ["Sports", None, "Business", None, None]
    assert [row.get("text") for row in rows] == ["goal", None, "shares", 5, "\ud800"]
    assert "lone surrogate" in rows[4]["error"]
    parquet.write_table(pyarrow.table({"text": ["goal", None, ""]}), tmp_path / "in.parquet")
    score(tmp_path / "in.parquet", tmp_path / "out.parquet", model)
    rows = read(tmp_path / "out.parquet")
    assert [row["label"] for row in rows] == ["Sports", None, None]
    assert [row["error"] is None for row in rows] == [True, False, False]


def test_a_text_that_an_engine_fails_on_fails_alone(
    model: ScoringModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Here(model)
    here._scorer.load()
    classify = here._scorer._classifier.classify

    def failing(texts: list[str], quality: Any) -> Any:
        if "treaty" in texts:
            raise RuntimeError("no memory")
        return classify(texts, quality)

    monkeypatch.setattr(here._scorer._classifier, "classify", failing)
    answers = here._scorer.answer(["goal", "treaty", "shares"])
    assert answers.errors == {1: "newsdesk could not compute: no memory"}
    assert [tiny.LABELS[best] for best in answers.probabilities.argmax(-1)][::2] == ["Sports", "Business"]


@pytest.mark.parametrize("form", FORMS)
def test_a_column_of_the_input_is_never_lost(form: str, model: ScoringModel, tmp_path: Path) -> None:
    source, out = tmp_path / f"in.{form}", tmp_path / f"out.{form}"
    if form == "parquet":
        parquet.write_table(pyarrow.table({"text": ["goal"], "label": ["mine"]}), source)
    else:
        source.write_text("text,label\ngoal,mine\n" if form == "csv" else '{"text": "goal", "label": "mine"}\n')
    outcome = score(source, out, model)
    assert "--prefix" in outcome.failed[0]
    assert not out.exists()
    score(source, out, model, prefix="nd_", overwrite=True)
    assert [(row["label"], row["nd_label"]) for row in read(out)] == [("mine", "Sports")]


def test_parquet_keeps_its_types(model: ScoringModel, tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "text": pyarrow.array(["goal", "shares"]).dictionary_encode(),
            "when": pyarrow.array([1, 2], pyarrow.timestamp("ns", "UTC")),
            "tags": pyarrow.array([["a"], None]),
            "weight": pyarrow.array([1.5, None], pyarrow.float32()),
        }
    )
    parquet.write_table(table, tmp_path / "in.parquet")
    score(tmp_path / "in.parquet", tmp_path / "out.parquet", model)
    out = parquet.read_table(tmp_path / "out.parquet")
    assert out.column_names[:4] == table.column_names
    for name in table.column_names[1:]:
        assert out[name].equals(table[name])
    assert out["text"].to_pylist() == ["goal", "shares"]


def test_several_columns_and_files_without_rows(model: ScoringModel, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("title\tbody\ngoal\tmatch\n")
    reading = job.Reading(columns=["title", "body"])
    score(tmp_path / "in.tsv", tmp_path / "out.tsv", model, reading=reading)
    assert (tmp_path / "out.tsv").read_text().splitlines()[1].startswith("goal\tmatch\tSports\t")
    (tmp_path / "none.csv").write_text("id,text\n")
    score(tmp_path / "none.csv", tmp_path / "none-scored.csv", model)
    assert (tmp_path / "none-scored.csv").read_text().startswith("id,text,label,")
    parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), tmp_path / "none.parquet")
    score(tmp_path / "none.parquet", tmp_path / "none-scored.parquet", model)
    assert parquet.read_table(tmp_path / "none-scored.parquet").column_names[:2] == ["text", "label"]


def test_what_does_not_go_on_is_said(model: ScoringModel, tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.csv"), tmp_path / "out.csv"
    with pytest.raises(Ended):
        score(source, out, model, 1)
    with pytest.raises(ScoreError, match="was begun with prefix '', and now it is 'nd_'"):
        score(source, out, model, prefix="nd_")
    with LocalFiles().lock(f"{out}.parts"), pytest.raises(ScoreError, match="another `newsdesk score` works there"):
        score(source, out, model)
    assert score(source, out, model, prefix="nd_", overwrite=True).scored == jobs.ROWS
    with pytest.raises(ScoreError, match="is there already"):
        score(source, out, model)
    with pytest.raises(ScoreError, match="of the same form"):
        score(source, tmp_path / "out.parquet", model)
    with pytest.raises(ScoreError, match="no such file"):
        score(tmp_path / "nothing.csv", out, model)
    with pytest.raises(ScoreError, match="write elsewhere"):
        score(tmp_path, tmp_path / "within", model)
    with pytest.raises(ScoreError, match=r"fsspec, and what it needs for nowhere://"):
        score("nowhere://a.csv", out, model)
    (tmp_path / "parquet.csv").write_bytes(write(tmp_path / "few.parquet", 3).read_bytes())
    assert "this is a parquet file" in score(tmp_path / "parquet.csv", tmp_path / "x.csv", model).failed[0]


def test_a_file_that_has_changed_is_scored_anew(model: ScoringModel, tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.csv"), tmp_path / "out.csv"
    with pytest.raises(Ended):
        score(source, out, model, 2)
    write(source, jobs.ROWS - 1)
    assert score(source, out, model).scored == jobs.ROWS - 1
    assert len(read(out)) == jobs.ROWS - 1


def test_the_command(repository: Path, tmp_path: Path) -> None:
    """Two processes, as it is installed."""
    (tmp_path / "in.csv").write_text("headline\ngoal match\n\nshares market\n ,\n")
    options = ["--model-repository", repository, "--state", tmp_path / "state", "--target", "onnxruntime:fp32"]
    command = [NEWSDESK, "score", tmp_path / "in.csv", tmp_path / "out.csv", *options, "--workers", "2", "--json"]
    ran = subprocess.run(
        [*command, "--text-column", "headline"], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 1, ran.stderr
    report = json.loads(ran.stdout)
    assert (report["rows"], report["refused"], report["files"], report["failed"]) == (3, 1, 1, [])
    assert [row["label"] for row in read(tmp_path / "out.csv")] == ["Sports", "Business", ""]

"""`newsdesk build` on somebody's own files that are not what they should be: one message, and exit code 2."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from newsdesk.build.commands import build
from newsdesk.build.data import tables

app = typer.Typer()
app.command()(build)
GOOD = b"text,label\n" + b"".join(b"headline %d,%d\n" % (i, 1 + i % 3) for i in range(30))


def run(folder: Path, name: str, data: bytes, *options: str, stage: str = "clean") -> subprocess.CompletedProcess[str]:
    (folder / name).write_bytes(data)
    command = ["--data", str(folder / name), "--artifacts", str(folder / "artifacts"), "--stage", stage, *options]
    result = CliRunner().invoke(app, command)
    assert "Traceback" not in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return subprocess.CompletedProcess(command, result.exit_code, result.stdout, result.stderr)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("cut.csv.gz", gzip.compress(GOOD, mtime=0)[:60], "cut.csv.gz: the gzip file is cut short: its end is missing"),
        ("deep.jsonl", b"[" * 10_000, "deep.jsonl: 1 row cannot be read"),
        ("digits.jsonl", b'{"text": ' + b"9" * 5000 + b"}", "a number of more digits than can be read"),
        ("cut.parquet", b"PAR1" + bytes(100), "not a Parquet file that can be read"),
        ("latin.csv", GOOD + b"headline,caf\xe9\n", r"row 31: the label 'caf\udce9' is not UTF-8"),
        ("lines.csv", GOOD + b'headline,"a\nb"\n', r"row 31: the label 'a\nb' has a line break"),
        ("book.csv", b"PK\x03\x04 xl/workbook.xml", "this is an Excel workbook (.xlsx): save it as CSV UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",
)
def test_it_is_one_message(name: str, data: bytes, message: str, tmp_path: Path):
    result = run(tmp_path, name, data)
    assert result.returncode == 2
    assert message in result.stderr


def test_test_labels_that_count_from_elsewhere_are_refused(tmp_path: Path):
    """Training labels 1 to 3, test labels 0 to 2: the figures were wrong, and nothing said so."""
    (tmp_path / "test.csv").write_bytes(b"text,label\n" + b"".join(b"other %d,%d\n" % (i, i % 3) for i in range(9)))
    result = run(tmp_path, "train.csv", GOOD, "--test-data", str(tmp_path / "test.csv"))
    assert result.returncode == 2
    assert "labels that training does not know: '0' (row 1); it knows '1', '2', '3'" in result.stderr


def test_a_locale_that_knows_ascii_alone_changes_nothing(tmp_path: Path):
    file = tmp_path / "rows.csv"
    file.write_bytes(b"text;Thema\n" + "".join(f"über {i};{'äö'[i % 2]}\n" for i in range(20)).encode())
    code = "from newsdesk.build.commands import build; import typer; typer.run(build)"
    command = [sys.executable, "-c", code, "--data", str(file), "--label-column", "Thema", "--stage", "clean"]
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"}
    result = subprocess.run(
        [*command, "--artifacts", str(tmp_path / "artifacts"), "--json"],
        capture_output=True,
        timeout=200,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert b'"kept": 20' in result.stdout


def test_feedback_corrects_the_rows_of_other_files(tmp_path: Path):
    """The file that a gateway keeps is read as it is, beside a file with columns of other names."""
    lines = [
        {
            "corrected_at": "2026-01-01T12:00:00.000Z",
            "text": "headline 3",
            "label": "2",
            "predicted": None,
            "note": None,
        },
        {"corrected_at": "2026-01-01T13:00:00.000Z", "text": "headline 3", "label": "3", "predicted": "1", "note": "x"},
        {"corrected_at": "2026-01-01T14:00:00.000Z", "text": "a new headline", "label": "1"},
    ]
    feedback = tmp_path / "ag_news.jsonl"
    feedback.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    named = ["--data", str(feedback), "--text-column", "body", "--label-column", "topic"]
    result = run(tmp_path, "rows.csv", GOOD.replace(b"text,label", b"body,topic"), *named)
    assert result.returncode == 0, result.stderr
    assert "33 rows read, 31 kept" in result.stderr + result.stdout
    (folder,) = (path.parent for path in (tmp_path / "artifacts").rglob("train.parquet"))
    names = tables.read_labels(folder)
    kept = {row.text: names[row.label] for row in tables.read(folder / "train.parquet")}
    assert (kept["headline 3"], kept["a new headline"]) == ("3", "1")

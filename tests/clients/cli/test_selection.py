"""`newsdesk select`, as it is used: a file in, the CSV to label out."""

import csv
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from newsdesk.build.data import sources
from newsdesk.build.recipe import Source
from newsdesk.clients.cli import selection
from tests.clients.cli.command import run
from tests.clients.triton_process import Ports

TEXTS = "A match 100", "shares, 9000", "a  MATCH 100", "a chip 5000", "", "="
ROWS = [(str(number), text) for number, text in enumerate(TEXTS, 1)]


@pytest.fixture
def select(triton: Ports, tmp_path: Path) -> Any:
    """Return arguments → the result and the rows that were written, for a file with ROWS."""
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *ROWS])

    def select(
        *arguments: str, file: str = "texts.csv", standard_input: bytes = b""
    ) -> tuple[Any, list[dict[str, str]]]:
        output = tmp_path / "chosen.csv"
        output.unlink(missing_ok=True)
        name = file if file == "-" else str(tmp_path / file)
        result = run(
            "select",
            name,
            "--output",
            str(output),
            *arguments,
            standard_input=standard_input,
            NEWSDESK_URL=triton.grpc_url,
        )
        return result, [*csv.DictReader(output.open(newline=""))] if output.exists() else []

    return select


def test_rows_are_written_as_they_were_to_be_labelled(select: Any, tmp_path: Path) -> None:
    result, rows = select("--rows", "3", "--label-column", "topic")
    assert result.exit_code == 1, result.output  # the empty text is refused
    assert "3 of 6 rows are in" in result.stdout
    assert "the same text: 1" in result.stdout
    assert [*rows[0]] == ["id", "text", "topic", selection.SCORE, selection.REASON]
    assert {(row["id"], row["text"]) for row in rows} <= {*ROWS}
    assert len({row["id"] for row in rows}) == 3
    assert "3" not in {row["id"] for row in rows}  # it says what the first says
    assert [row["topic"] for row in rows] == [""] * 3
    assert all(float(row[selection.SCORE]) > 0 and "uncertain: " in row[selection.REASON] for row in rows)
    filled = tmp_path / "filled.csv"
    with filled.open("w", newline="") as file:
        table = csv.DictWriter(file, [*rows[0]])
        table.writeheader()
        table.writerows({**row, "topic": "sport"} for row in rows)
    read = [*sources.read(Source(file=str(filled), label_column="topic"))]  # as `build --data` reads it
    assert {(row.text, row.label) for row in read} == {(row["text"], "sport") for row in rows}


def test_members_that_differ_most_come_first(select: Any) -> None:
    result, rows = select("--rows", "2", "--by", "disagreement", "--quality", "best", "--json")
    assert json.loads(result.stdout) | {"output": ""} == {
        "read": 6, "left_out": 1, "refused": 1, "chosen": 2, "output": ""
    }  # fmt: skip
    # The stand-in's second member gives every label the same share: the surer the first, the farther they are apart.
    assert [row["id"] for row in rows] == ["2", "4"]
    assert rows[0][selection.REASON].startswith("members: ")


def test_what_is_labelled_is_left_out(select: Any, tmp_path: Path) -> None:
    (tmp_path / "labelled.jsonl").write_text('{"text": "SHARES, 9000", "label": "x"}\n')
    half = "text,label\na match 1,\na treaty,World\na chip,\n"
    (tmp_path / "half.csv.gz").write_bytes(gzip.compress(half.encode()))
    without = ["--without", str(tmp_path / "labelled.jsonl")]
    _, rows = select(*without, "--by", "uncertainty")
    assert [row["id"] for row in rows] == ["6", "1", "4"]  # the larger a text's number, the surer is the stand-in
    result, rows = select(*without, "--by", "uncertainty", file="half.csv.gz")
    assert result.exit_code == 0
    assert [row["text"] for row in rows] == ["a chip", "a match 1"]


def test_diversity_asks_no_server(select: Any) -> None:
    lines = b"the cup final\nthe cup  final\noil rises\nthe cup final again\n\xff\n"
    result, rows = select(
        "--by", "diversity", "--rows", "2", "--url", "grpc://127.0.0.1:1", file="-", standard_input=lines
    )
    assert result.exit_code == 1
    assert "refused: 1" in result.stdout
    assert "oil rises" in {row["text"] for row in rows}
    assert len(rows) == 2


def test_of_too_many_rows_some_are_drawn(select: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_POOL", 10)
    lines = "".join(f"word{number}\n" for number in range(200)).encode()
    _, rows = select("--by", "diversity", "--rows", "5", file="-", standard_input=lines)
    assert len(rows) == 5
    assert max(int(row["text"].removeprefix("word")) for row in rows) > 50


def test_what_cannot_be_done_is_said(select: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = select("--text-column", "body")
    assert (result.exit_code, "no column body among id, text" in result.stderr) == (2, True)
    result = run("select", str(tmp_path / "texts.csv"), "--output", str(tmp_path / "texts.csv"))
    assert (result.exit_code, "the file that is read" in result.stderr) == (2, True)
    result, _ = select("--by", "disagreement", "--quality", "fast")
    assert (result.exit_code, "expected --by uncertainty" in result.stderr) == (2, True)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    result, _ = select()
    assert (result.exit_code, "pip install 'newsdesk[select]'" in result.stderr) == (2, True)
    result, rows = select("--by", "uncertainty")
    assert len(rows) == 4

"""The command line, as it is installed."""

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from tests.clients.cli.command import NEWSDESK, run
from tests.clients.triton_process import Ports


@pytest.fixture
def classify(triton: Ports) -> Any:
    def classify(*arguments: str, standard_input: bytes = b"") -> Any:
        return run("classify", *arguments, standard_input=standard_input, NEWSDESK_URL=triton.grpc_url)

    return classify


def test_arguments_as_text(classify: Any) -> None:
    result = classify("a match", "shares up 5000", "a chip")
    assert result.stdout == "Sports   0.6000  a match\nBusiness 0.7500  shares up 5000\nSci/Tech 0.6000  a chip\n"
    assert (result.stderr, result.exit_code) == ("", 0)


def test_top_k_as_text(classify: Any) -> None:
    assert classify("a match", "--top-k", "2").stdout == "Sports   0.6000, Business 0.1702  a match\n"


def test_over_the_gateway_with_a_key_in_the_environment(gateway: str, triton: Ports) -> None:
    assert run("classify", "a match", "--url", gateway).stdout == "Sports   0.6000  a match\n"
    assert run("classify", "a match", "--url", triton.grpc_url, NEWSDESK_API_KEY="nd_x").exit_code == 0
    refused = run("classify", "a match", "--url", gateway, "--api-key", "nd_x")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "newsdesk keys create" in refused.stderr


def test_a_mistyped_address_is_told_soon(nowhere: int) -> None:
    """Before a client of the library gives up, whose 30 seconds outlast a restart."""
    began = time.monotonic()
    result = run("classify", "a match", "--url", f"grpc://127.0.0.1:{nowhere}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Is `newsdesk serve` running" in result.stderr
    assert time.monotonic() - began < 30


def test_standard_input_as_json(classify: Any) -> None:
    for dash in ([], ["-"], ["--file", "-"]):
        result = classify(*dash, "--format", "json", standard_input="a match 1\nü treaty\r\n".encode())
        first, second = map(json.loads, result.stdout.splitlines())
        assert first == {
            "index": 0,
            "label": "Sports",
            "probabilities": {
                "Sports": 0.6000300049781799,
                "Business": 0.17020000517368318,
                "Sci/Tech": 0.12764999270439149,
                "World": 0.10211999714374542,
            },
            "answered_by": "stand-in",
            "windows": 1,
            "unsure": False,
            "version": "1",
        }
        assert (second["index"], second["label"], result.exit_code) == (1, "World", 0)


def test_refused_texts_keep_their_line_and_set_the_exit_code(classify: Any) -> None:
    lines = b"a match\n\nbad \xff\nshares\n"
    text = classify(standard_input=lines)
    assert text.stdout.splitlines() == [
        "Sports   0.6000  a match",
        "refused          empty, expected at least one visible character",
        "refused          not UTF-8 (byte 4 is 0xff), send UTF-8",
        "Business 0.6000  shares",
    ]
    assert (text.stderr, text.exit_code) == ("newsdesk: 2 of 4 texts refused\n", 1)
    as_json = classify("--format", "json", standard_input=lines)
    assert json.loads(as_json.stdout.splitlines()[2]) == {
        "index": 2,
        "error": "not UTF-8 (byte 4 is 0xff), send UTF-8",
    }
    as_csv = classify("--format", "csv", "--top-k", "1", standard_input=lines)
    assert list(csv.reader(io.StringIO(as_csv.stdout))) == [
        ["index", "label", "World", "Sports", "Business", "Sci/Tech", "answered_by", "windows", "error", "unsure"],
        ["0", "Sports", "", "0.6000000238418579", "", "", "stand-in", "1", "", "false"],
        ["1", "", "", "", "", "", "", "", "empty, expected at least one visible character", ""],
        ["2", "", "", "", "", "", "", "", "not UTF-8 (byte 4 is 0xff), send UTF-8", ""],
        ["3", "Business", "", "", "0.6000000238418579", "", "stand-in", "1", "", "false"],
    ]
    assert as_json.exit_code == as_csv.exit_code == 1


def test_files(classify: Any, tmp_path: Path) -> None:
    lines, table, rows = (tmp_path / name for name in ("a.txt", "a.csv", "a.jsonl"))
    lines.write_text("".join(f"match {number}\n" for number in range(1000)))
    table.write_text("title,description\na,match\n")
    rows.write_text('{"title": "a", "description": "match"}\n')
    answers = classify("--file", str(lines), "--format", "json").stdout.splitlines()
    assert [json.loads(answer)["index"] for answer in answers] == list(range(1000))
    for file in (table, rows):
        result = classify("-f", str(file), "--text-column", "title", "--text-column", "description")
        assert result.stdout == "Sports   0.6000  a match\n"


def test_what_came_before_a_row_that_cannot_be_read_is_answered(classify: Any, tmp_path: Path) -> None:
    """And what comes behind it; refused rows have their place."""
    file = tmp_path / "a.jsonl"
    file.write_bytes(
        b'{"text": "a match"}\n' * 300 + b'{"text": \n' + b'\n{"text": null}\n{"text": "shares"}\n' + b"[" * 9000
    )
    result = classify("--file", str(file), "--format", "json")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["index"] for answer in answers] == list(range(304))
    assert [answer.get("label") for answer in answers] == ["Sports"] * 300 + [None, None, "Business", None]
    assert answers[301]["error"] == "line 303: text is null, expected a text"
    assert (result.exit_code, result.stderr) == (1, "newsdesk: 3 of 304 texts refused\n")


def test_what_came_before_the_end_of_a_broken_file_is_answered(classify: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.csv.GZ"
    packed = gzip.compress(b"text\n" + b"".join(b"match %d of %d\n" % (i, i * 7919 % 997) for i in range(9000)))
    file.write_bytes(packed[: len(packed) // 2])
    result = classify("--file", str(file))
    lines = result.stdout.splitlines()
    assert len(lines) > 1000
    assert lines[1].endswith("match 1 of 940")
    assert result.exit_code == 2
    assert result.stderr == f"newsdesk: {file}: the gzip file is cut short: its end is missing\n"


def test_thousands_of_refused_rows_stand_between_texts(classify: Any) -> None:
    lines = b'"a match"\n' + b"5\n" * 5000 + b'"shares"\n' + b"5\n" * 3000
    result = classify("--file", "-", "--input-format", "jsonl", "--json", standard_input=lines)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["index"] for answer in answers] == list(range(8002))
    assert [place for place, answer in enumerate(answers) if "label" in answer] == [0, 5001]


def test_standard_input_in_every_form(classify: Any) -> None:
    table = b"section;headline\nx;a match, late\n"
    for content, options in (
        (table, ["--input-format", "csv", "--text-column", "headline"]),
        (table.replace(b";", b"^"), ["--input-format", "csv", "--text-column", "headline", "--delimiter", "^"]),
        (gzip.compress(table, mtime=0), ["--input-format", "csv", "--text-column", "headline"]),
        (b'{"headline": "a match, late"}\n', ["--input-format", "jsonl", "--text-column", "headline"]),
        (b"a match, late\n", ["--input-format", "txt"]),
    ):
        result = classify("--file", "-", *options, standard_input=content)
        assert (result.stdout, result.stderr) == ("Sports   0.6000  a match, late\n", "")


@pytest.mark.parametrize(
    ("name", "data", "code", "words"),
    [
        ("digits.jsonl", b'{"text": ' + b"9" * 5000 + b"}", 1, "1 of 1 texts refused"),
        ("cut.csv.gz", gzip.compress(b"text\nmatch\n" * 99, mtime=0)[:40], 2, "cut short"),
        ("book.csv", b"PK\x03\x04 xl/workbook.xml", 2, "this is an Excel workbook (.xlsx): save it as CSV UTF-8"),
        ("cut.parquet", b"PAR1" + bytes(50), 2, "not a Parquet file that can be read"),
    ],
    ids=lambda parameter: parameter[:40] if isinstance(parameter, str) else "_",
)
def test_a_file_that_cannot_be_read_is_one_message(
    classify: Any, tmp_path: Path, name: str, data: bytes, code: int, words: str
) -> None:
    (tmp_path / name).write_bytes(data)
    result = classify("--file", str(tmp_path / name))
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_locale_that_knows_ascii_alone_changes_nothing(triton: Ports, tmp_path: Path) -> None:
    (tmp_path / "ü.csv").write_bytes("text;größe\nmatch ü;x\n".encode() + b"caf\xe9;x\n")
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "NEWSDESK_URL": triton.grpc_url}
    command = [NEWSDESK, "classify", "--file", str(tmp_path / "ü.csv")]
    result = subprocess.run(command, capture_output=True, timeout=60, env=environment)
    assert result.stdout.startswith(b"Sports   0.6000  match ?\nrefused")
    assert (result.returncode, result.stderr) == (1, b"newsdesk: 1 of 2 texts refused\n")


def test_quality_and_members(classify: Any) -> None:
    (answer,) = classify("match", "--quality", "best", "--members", "--json").stdout.splitlines()
    assert json.loads(answer)["answered_by"] == "stand-in+careful"
    assert json.loads(answer)["members"]["careful"] == dict.fromkeys(("World", "Sports", "Business", "Sci/Tech"), 0.25)
    assert "members" not in json.loads(classify("match", "--format", "json").stdout)
    assert (classify("match", "--members").stderr) == "newsdesk: --members needs --json\n"
    assert classify("match", "--quality", "finest").exit_code == 2


def test_answers_that_are_not_sure_say_so_and_on_demand_how_uncertain_they_are(classify: Any) -> None:
    lines = b"match lol\nmatch\n"
    assert classify(standard_input=lines).stdout.splitlines() == [
        "Sports   0.6000  (not sure) match lol",
        "Sports   0.6000  match",
    ]
    first, second = map(json.loads, classify("--json", "--uncertainty", standard_input=lines).stdout.splitlines())
    assert (first["unsure"], second["unsure"]) == (True, False)
    assert first["uncertainty"] == {"total": 0.75, "data": 0.5, "model": 0.25}
    assert "uncertainty" not in json.loads(classify("match", "--json").stdout)
    table = classify("--format", "csv", "--uncertainty", standard_input=b"match lol\n\n").stdout.splitlines()
    assert table[0].endswith(",error,unsure,uncertainty,of_data,of_model")
    assert table[1].endswith(",stand-in,1,,true,0.75,0.5,0.25")
    assert table[2].endswith(",,,,")
    assert classify("match", "--uncertainty").stderr == "newsdesk: --uncertainty needs --json, or --format csv\n"


def test_no_texts_are_no_answers(classify: Any) -> None:
    assert (classify().stdout, classify().exit_code) == ("", 0)
    head = "index,label,World,Sports,Business,Sci/Tech,answered_by,windows,error,unsure"
    assert classify("--format", "csv").stdout == f"{head}\n"
    assert classify("--format", "csv", "--uncertainty").stdout == f"{head},uncertainty,of_data,of_model\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["match", "--file", "a.txt"], "expected one or the other"),
        (["--file", "/nonexistent.txt"], "No such file or directory: '/nonexistent.txt'"),
        (["match", "--url", "localhost:8001"], "expected grpc://host:port, http://host:port or gateway"),
        (["match", "--top-k", "0"], "Invalid value for '--top-k'"),
        (["match", "--format", "xml"], "Invalid value for '--format'"),
        (["match", "--text-column", "a"], "expected one or the other"),
    ],
)
def test_wrong_usage_is_exit_code_2(classify: Any, arguments: list[str], words: str) -> None:
    result = classify(*arguments)
    assert (result.stdout, result.exit_code) == ("", 2)
    assert words in " ".join(result.stderr.replace("│", " ").split())


def test_no_server_is_exit_code_2_with_advice() -> None:
    result = run("classify", "match", "--timeout", "0.5", NEWSDESK_URL="grpc://127.0.0.1:9")
    assert result.exit_code == 2
    assert result.stderr.startswith("newsdesk: grpc://127.0.0.1:9 does not answer: ")
    assert "Is `newsdesk serve` running" in result.stderr


def test_the_installed_command(triton: Ports) -> None:
    def newsdesk(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"NEWSDESK_URL": triton.http_url}
        return subprocess.run([NEWSDESK, *arguments], capture_output=True, text=True, timeout=60, env=environment)

    answered, refused = newsdesk("classify", "a match"), newsdesk("classify", "")
    assert (answered.stdout, answered.stderr, answered.returncode) == ("Sports   0.6000  a match\n", "", 0)
    assert (refused.stderr, refused.returncode) == ("newsdesk: 1 of 1 texts refused\n", 1)
    assert newsdesk("--version").stdout.startswith("newsdesk 0.")


def test_a_reader_that_leaves_ends_it_quietly(triton: Ports, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("match\n" * 20_000)
    command = f"{NEWSDESK} classify --url {triton.grpc_url} --file {file} | head -n 1"
    result = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("Sports   0.6000  match\n", "")


def test_help_imports_nothing_heavy() -> None:
    code = """
        import sys
        from typer.testing import CliRunner
        from newsdesk.clients.cli.app import app
        for arguments in (["--help"], ["classify", "--help"], ["models", "--help"], ["--version"]):
            assert CliRunner().invoke(app, arguments).exit_code == 0
        heavy = {"torch", "openvino", "onnxruntime", "transformers", "tritonclient", "grpc", "aiohttp", "numpy"}
        heavy |= {"urllib3", "newsdesk.server.serving.commands", "newsdesk.build.commands"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)


def test_the_sdk_brings_no_gevent(triton: Ports) -> None:
    code = f"""
        import sys
        from newsdesk.clients import Client
        for url in ({triton.http_url!r}, {triton.grpc_url!r}):
            Client(url).classify("match")
        assert not {{"gevent", "geventhttpclient"}} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)


def test_doctor_and_classify_write_json(classify: Any) -> None:
    command = [NEWSDESK, "doctor", "--json", "--no-gateway", "--http-port", "0"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    ports = ["--http-port", "18000", "--grpc-port", "18001", "--metrics-port", "18002"]
    doctor = subprocess.run([*command[:-2], *ports], capture_output=True, text=True, timeout=60)
    checks = json.loads(doctor.stdout)
    assert {check["level"] for check in checks} <= {"ok", "warning", "problem"}
    assert all(check.keys() == {"name", "level", "found", "remedy"} for check in checks)
    assert json.loads(classify("match", "--json").stdout)["label"] == "Sports"

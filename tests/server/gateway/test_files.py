"""Files up, lines down."""

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from newsdesk.clients import Prediction
from newsdesk.server.gateway.plane import CallOptions
from newsdesk.server.gateway.problems import Full
from newsdesk.server.gateway.routes import files
from newsdesk.server.gateway.uploads import UploadedRow
from tests.server.gateway.conftest import Served

URL = "/v1/classify/file"
CSV = {"Content-Type": "text/csv"}
ROWS = [(f"shares {i}" if i % 3 else f"match {i}", f"of {i}, and\nmore") for i in range(500)]
EXPECTED = ["Business" if i % 3 else "Sports" for i in range(500)]


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def csv(rows: list[tuple[str, str]], header: str = "title,description") -> bytes:
    return "\n".join([header, *(f'"{a}","{b}"' for a, b in rows)]).encode()


def table(**columns: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(arrow.table(columns), file, row_group_size=100)
    return file.getvalue()


def in_form(form: str) -> bytes:
    if form == "csv":
        return csv(ROWS)
    if form == "jsonl":
        return b"\n".join(json.dumps({"title": a, "description": b}).encode() for a, b in ROWS)
    titles, descriptions = zip(*ROWS, strict=True)
    return table(title=arrow.array(titles).dictionary_encode(), description=descriptions)


def test_what_is_not_sure_is_marked(reader: httpx.Client) -> None:
    answers = lines(reader.post(URL, params={"uncertainty": True}, content=b"text\nmatch lol\nmatch\n", headers=CSV))
    assert [line["unsure"] for line in answers] == [True, False]
    assert answers[0]["uncertainty"] == {"total": 0.75, "data": 0.5, "model": 0.25}


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("how", ["query", "form"])
def test_every_form(reader: httpx.Client, form: str, how: str) -> None:
    params: dict[str, Any] = {"column": ["title", "description"], "top_k": 1}
    if how == "query":
        answer = reader.post(URL, params=params | {"format": form}, content=in_form(form))
    else:
        answer = reader.post(URL, params=params, files={"file": (f"articles.{form}", in_form(form))})
    answers = lines(answer)
    assert [line["index"] for line in answers] == list(range(500))
    assert [line["label"] for line in answers] == EXPECTED
    assert [list(line["probabilities"]) for line in answers] == [[label] for label in EXPECTED]


def test_bad_texts_have_their_error_in_their_place(reader: httpx.Client) -> None:
    content = b"text\nshares 1\n \nmatch\xff 2\n" + b"x" * 300_000 + b"\ntreaty 3\n"
    answers = lines(reader.post(URL, content=content, headers=CSV))
    assert [line.get("label") for line in answers] == ["Business", None, None, None, "World"]
    assert ["error" in line for line in answers] == [False, True, True, True, False]
    assert "not UTF-8" in answers[2]["error"]
    null = lines(reader.post(URL, params={"format": "parquet"}, content=table(text=["shares", None])))
    assert [line.get("label") for line in null] == ["Business", None]


@pytest.mark.parametrize(
    ("content", "params", "status", "says"),
    [
        (b"a,b\n1,2\n", {}, 422, "no column text among a, b: name one with ?column="),
        (b"a,b\n1,2\n", {"column": "c"}, 422, "no column c"),
        (b"\x89PNH,\xff\n1,2\n", {}, 422, "no column text among ?PNH, ?"),
        (b"PK\x03\x04 xl/workbook.xml", {}, 415, "this is an Excel workbook (.xlsx): save it as CSV UTF-8"),
        (b"text^label\na^b\n", {}, 422, "say what parts its cells with ?delimiter="),
        (b"text,text\na,b\n", {}, 422, "column text stands 2 times"),
        (b"text\na\n", {"delimiter": "ab"}, 422, "the delimiter is 'ab', expected one character"),
        (gzip.compress(b"text\n" + b"a" * 99, mtime=0)[:20], {}, 422, "the gzip file is cut short"),
        (b"x" * 10_000 + b",y\n1,2\n", {}, 422, "no column text among xxx"),
        (b'{"a": "b"}', {"format": "jsonl"}, 422, "no column text among a"),
        (b"PAR1 not at all", {"format": "parquet"}, 422, "not a Parquet file"),
        (b"", {"format": "parquet"}, 422, "not a Parquet file"),
        (table(text=[1, 2]), {"format": "parquet"}, 422, "column text is int64, expected text"),
        (table(a=["x"]), {"format": "parquet"}, 422, "no column text among a"),
        (b"a", {"format": "xlsx"}, 422, "format"),
    ],
)
def test_wrong_files(reader: httpx.Client, content: bytes, params: dict[str, str], status: int, says: str) -> None:
    answer = reader.post(URL, params=params, content=content, headers=CSV)
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert len(answer.json()["detail"]) <= 2000


def test_wrong_types_and_forms(reader: httpx.Client) -> None:
    assert reader.post(URL, content=b"text\na\n", headers={"Content-Type": "image/png"}).status_code == 415
    assert reader.post(URL, files={"other": ("a.csv", b"text\na\n")}).status_code == 422
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert reader.post(URL, content=b"no form", headers=broken).status_code in (400, 422)
    assert lines(reader.post(URL, content=b"", headers=CSV)) == []


def test_a_row_that_cannot_be_read_is_refused_alone(reader: httpx.Client) -> None:
    broken = [b'{"text": null}', b"5", b"[" * 10_000, b'{"text": "' + b"x" * 3_000_000 + b'"}', b"{"]
    content = b'{"text": "shares"}\n' * 300 + b"\n".join(broken) + b'\n\n{"text": "match"}'
    answers = lines(reader.post(URL, params={"format": "jsonl"}, content=content))
    assert [line["index"] for line in answers] == list(range(306))
    assert [line.get("label") for line in answers] == ["Business"] * 300 + [None] * 5 + ["Sports"]
    words = ("text is null", "holds a int", "nested too deeply", "longer than 1 MiB", "not JSON")
    for line, place, reason in zip(answers[300:305], range(301, 306), words, strict=True):
        assert line["error"].startswith(f"line {place}: ")
        assert reason in line["error"]


def test_a_run_of_refused_rows_keeps_its_places(reader: httpx.Client) -> None:
    content = b'"shares"\n' + b"5\n" * 1000 + b'"match"\n' + b"5\n" * 200
    answers = lines(reader.post(URL, params={"format": "jsonl"}, content=content))
    assert [line["index"] for line in answers] == list(range(1202))
    assert [line["index"] for line in answers if "label" in line] == [0, 1001]


def test_a_quote_that_is_missing_costs_its_own_row(reader: httpx.Client) -> None:
    content = b'text;label\n"shares;x\n"match, late";x\ntreaty;x;y\nshares;x\n'
    answers = lines(reader.post(URL, content=content, headers=CSV))
    assert [line.get("label") for line in answers] == [None, "Sports", None, "Business"]
    assert [line["line"] for line in answers] == [2, 3, 4, 5]
    assert "line 2: the quote that opens in line 2 closes in the middle of a cell in line 3" in answers[0]["error"]
    assert "line 4: 3 cells, expected the 2 of the header" in answers[2]["error"]
    assert "?delimiter=" in answers[2]["error"]


@pytest.mark.parametrize(
    ("content", "params"),
    [
        (b"text^label\nshares up^x\n", {"delimiter": "^"}),
        (gzip.compress(b"text;label\nshares up;x\n", mtime=0), {}),
        ("\ufefftext\tlabel\r\nshares up\tx\r\n".encode("utf-16-le"), {}),
        (b"text,label\rshares up,x\r", {}),
        (table(text=["shares up"]), {"format": "csv"}),
    ],
)
def test_what_a_file_is_its_first_bytes_say(reader: httpx.Client, content: bytes, params: dict[str, str]) -> None:
    (answer,) = lines(reader.post(URL, params=params, content=content, headers=CSV))
    assert answer["label"] == "Business"
    (answer,) = lines(reader.post(URL, params=params, files={"file": ("a.csv.GZ", content)}))
    assert answer["label"] == "Business"


def test_what_comes_before_the_end_of_a_broken_file_is_answered(reader: httpx.Client) -> None:
    packed = gzip.compress(b"text\n" + b"".join(b"shares %d of %d\n" % (i, i * 7919 % 997) for i in range(5000)))
    answers = lines(reader.post(URL, content=packed[: len(packed) // 2], headers=CSV))
    assert len(answers) > 500
    assert {line["label"] for line in answers[:-1]} == {"Business"}
    assert (answers[-1]["problem"]["status"], answers[-1]["problem"]["detail"]) == (
        422,
        "the file: the gzip file is cut short: its end is missing",
    )


def test_whatever_fails_behind_the_first_rows_is_a_last_line() -> None:
    """An exception that nobody thought of, too: what came before it is answered, and no stream is cut."""

    class EchoingPlane:
        async def stream(self, batches: AsyncIterator[list[str]], asked: object) -> AsyncIterator[list[Prediction]]:
            async for batch in batches:
                yield [Prediction(0, "Sports", {"Sports": 1.0}, "member") for _ in batch]

    def read() -> Iterator[list[UploadedRow]]:
        yield [UploadedRow(0, "match")] * 200
        raise RecursionError("too deep")

    batches = read()
    plane: Any = EchoingPlane()
    request = SimpleNamespace(state=SimpleNamespace(request_id="r"))

    async def answered() -> list[bytes]:
        arguments = request, plane, io.BytesIO(), next(batches), batches, CallOptions()
        return [line async for block in files._lines(*arguments) for line in block.splitlines()]  # type: ignore[arg-type]

    answers = [json.loads(line) for line in asyncio.run(answered())]
    assert [line.get("index") for line in answers] == [*range(200), None]
    assert (answers[-1]["problem"]["status"], answers[-1]["problem"]["request_id"]) == (500, "r")
    assert "too deep" not in answers[-1]["problem"]["detail"]


def test_no_room_for_temporary_files_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield b"text\n"
        yield b"shares\n" * 200_000

    monkeypatch.setattr(files, "received", partial(files.received, made=partial(Path("/dev/full").open, "r+b")))
    monkeypatch.setattr(files.models, "of", lambda *_: SimpleNamespace(plane=None))
    request = SimpleNamespace(headers={"content-type": "text/csv"}, stream=stream)
    with pytest.raises(Full, match="disk is full") as problem:
        asyncio.run(files.classify_file(request))  # type: ignore[arg-type]
    assert problem.value.status_code == 507


def test_a_model_that_fails_ends_the_answers_with_its_problem(reader: httpx.Client) -> None:
    content = b"text\n" + b"shares\n" * 200 + b'"stand-in, fail"\n'
    answers = lines(reader.post(URL, content=content, headers=CSV))
    assert len(answers) == 193
    assert answers[-1]["problem"]["type"] == "urn:newsdesk:problem:model-failed"


def test_memory_stays_constant_and_answers_come_meanwhile(served: Served, reader: httpx.Client) -> None:
    """60 MB up, 30,000 lines down; and a caller that reads slowly holds nobody up."""

    def rows() -> Iterator[bytes]:
        yield b"text\n"
        for i in range(300):
            yield b"".join(b"shares %d %s\n" % (100 * i + j, b"x" * 2000) for j in range(100))

    before = resident_mb(served)
    with reader.stream("POST", URL, content=rows(), headers=CSV) as answer:
        received = answer.iter_lines()
        assert json.loads(next(received))["index"] == 0
        assert reader.post("/v1/classify", json={"text": "match"}).status_code == 200
        count = 1 + sum('"label":"Business"' in line for line in received)
    assert count == 30_000
    assert resident_mb(served) - before < 40


def test_a_caller_who_leaves_is_forgotten(served: Served, reader: httpx.Client) -> None:
    with served.client("reader") as leaving, leaving.stream("POST", URL, content=csv(ROWS * 20), headers=CSV) as answer:
        pass
    del answer
    assert reader.post("/v1/classify", json={"text": "match"}).status_code == 200


def resident_mb(served: Served) -> float:
    below = psutil.Process(served.server.process.pid).children()
    (gateway,) = [child for child in below if "newsdesk.server.gateway" in child.cmdline()]
    return gateway.memory_info().rss / 2**20

"""Files up, lines down."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

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
    found = lines(reader.post(URL, params={"uncertainty": True}, content=b"text\nmatch lol\nmatch\n", headers=CSV))
    assert [line["unsure"] for line in found] == [True, False]
    assert found[0]["uncertainty"] == {"total": 0.75, "data": 0.5, "model": 0.25}


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("how", ["query", "form"])
def test_every_form(reader: httpx.Client, form: str, how: str) -> None:
    params: dict[str, Any] = {"column": ["title", "description"], "top_k": 1}
    if how == "query":
        answer = reader.post(URL, params=params | {"format": form}, content=in_form(form))
    else:
        answer = reader.post(URL, params=params, files={"file": (f"articles.{form}", in_form(form))})
    found = lines(answer)
    assert [line["index"] for line in found] == list(range(500))
    assert [line["label"] for line in found] == EXPECTED
    assert [list(line["probabilities"]) for line in found] == [[label] for label in EXPECTED]


def test_bad_texts_have_their_error_in_their_place(reader: httpx.Client) -> None:
    given = b"text\nshares 1\n \nmatch\xff 2\n" + b"x" * 300_000 + b"\ntreaty 3\n"
    found = lines(reader.post(URL, content=given, headers=CSV))
    assert [line.get("label") for line in found] == ["Business", None, None, None, "World"]
    assert ["error" in line for line in found] == [False, True, True, True, False]
    assert "not UTF-8" in found[2]["error"]
    null = lines(reader.post(URL, params={"format": "parquet"}, content=table(text=["shares", None])))
    assert [line.get("label") for line in null] == ["Business", None]


@pytest.mark.parametrize(
    ("given", "params", "status", "says"),
    [
        (b"a,b\n1,2\n", {}, 422, "no column text among a, b: name one with ?column="),
        (b"a,b\n1,2\n", {"column": "c"}, 422, "no column c"),
        (b"\x89PNG,\xff\n1,2\n", {}, 422, "no column text among ?PNG, ?"),
        (b"x" * 10_000 + b",y\n1,2\n", {}, 422, "no column text among xxx"),
        (b'{"text": 5}', {"format": "jsonl"}, 422, "must be text"),
        (b"[", {"format": "jsonl"}, 422, "line 1 is not JSON"),
        (b"PAR1 not at all", {"format": "parquet"}, 422, "not a Parquet file"),
        (b"", {"format": "parquet"}, 422, "not a Parquet file"),
        (table(text=[1, 2]), {"format": "parquet"}, 422, "column text is int64, expected text"),
        (table(a=["x"]), {"format": "parquet"}, 422, "no column text among a"),
        (b"a", {"format": "xlsx"}, 422, "format"),
        (b"text\n" + b"x" * (17 * 2**20), {}, 422, "a line is longer than 16 MiB"),
    ],
)
def test_wrong_files(reader: httpx.Client, given: bytes, params: dict[str, str], status: int, says: str) -> None:
    answer = reader.post(URL, params=params, content=given, headers=CSV)
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert len(answer.json()["detail"]) <= 2000


def test_wrong_types_and_forms(reader: httpx.Client) -> None:
    assert reader.post(URL, content=b"text\na\n", headers={"Content-Type": "image/png"}).status_code == 415
    assert reader.post(URL, files={"other": ("a.csv", b"text\na\n")}).status_code == 422
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert reader.post(URL, content=b"no form", headers=broken).status_code in (400, 422)
    assert lines(reader.post(URL, content=b"", headers=CSV)) == []


def test_what_comes_before_a_broken_line_is_answered(reader: httpx.Client) -> None:
    given = b'{"text": "shares"}\n' * 300 + b"{"
    found = lines(reader.post(URL, params={"format": "jsonl"}, content=given))
    assert [line["index"] for line in found[:-1]] == list(range(300))
    assert found[-1]["problem"]["status"] == 422
    assert "line 301 is not JSON" in found[-1]["problem"]["detail"]


def test_a_model_that_fails_ends_the_answers_with_its_problem(reader: httpx.Client) -> None:
    given = b"text\n" + b"shares\n" * 200 + b'"stand-in, fail"\n'
    found = lines(reader.post(URL, content=given, headers=CSV))
    assert len(found) == 193
    assert found[-1]["problem"]["type"] == "urn:newsdesk:problem:model-failed"


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
    children = Path(f"/proc/{served.server.process.pid}/task/{served.server.process.pid}/children").read_text()
    for child in children.split():
        if b"newsdesk.server.gateway" in Path(f"/proc/{child}/cmdline").read_bytes():
            (line,) = [
                line for line in Path(f"/proc/{child}/status").read_text().splitlines() if line.startswith("VmRSS")
            ]
            return int(line.split()[1]) / 1024
    raise AssertionError("no gateway process")

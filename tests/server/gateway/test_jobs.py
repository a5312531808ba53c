"""Files that outlast a connection, and the gateway that took them."""

import errno
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from newsdesk.server.gateway.jobs.record import Folder, Record
from newsdesk.server.gateway.jobs.store import Incoming, Store, problem_of
from newsdesk.server.gateway.keys import KeyFile, Role
from newsdesk.server.gateway.problems import Full
from newsdesk.server.gateway.settings import GatewaySettings
from newsdesk.server.serving.gateway import Gateway
from tests.holding import Hold
from tests.server.gateway import gateways
from tests.server.gateway.conftest import Served

URL, FILE = "/v1/jobs", "/v1/classify/file"
CSV = {"Content-Type": "text/csv"}
ROWS = 3000
SECONDS = 90


class Stalls:
    """Texts at which the stand-in holds, each once, until they are lifted."""

    def __init__(self, folder: Path, *rows: int) -> None:
        self._holds = {row: Hold(folder / f"hold{row}") for row in rows}
        for held in self._holds.values():
            held.folder.mkdir()

    def csv(self, rows: int = ROWS) -> bytes:
        texts = [f"shares {row}" if row % 3 else f"match {row}" for row in range(rows)]
        for row, held in self._holds.items():
            texts[row] = held.stalling
        texts[5] = " "
        return "".join(["text\n", *(f'"{text}"\n' for text in texts)]).encode()

    def lift(self) -> None:
        for held in self._holds.values():
            held.release()


def until(client: httpx.Client, id: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    while True:
        answer = client.get(f"{URL}/{id}")
        assert answer.status_code == 200, answer.text
        if holds(answer.json()):
            return answer.json()
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.02)


def done(client: httpx.Client, id: str) -> dict[str, Any]:
    return until(client, id, lambda job: job["state"] in ("done", "failed"))


def test_a_job_answers_as_the_file_route_does(reader: httpx.Client, served: Served) -> None:
    content = b"title;body\nshares;1\nmatch;2\n;\ntreaty;3\n"
    params = {"column": ["title", "body"], "top_k": 2, "uncertainty": True}
    taken = reader.post(URL, params=params, files={"file": ("articles.csv", content)})
    assert taken.status_code == 202, taken.text
    id = taken.json()["id"]
    assert taken.headers["Location"] == f"{URL}/{id}"
    job = done(reader, id)
    assert (job["state"], job["rows"], job["total"], job["refused"]) == ("done", 4, 4, 1)
    assert id in [job["id"] for job in reader.get(URL).json()["jobs"]]
    result = reader.get(f"{URL}/{id}/result")
    assert result.headers["content-type"].startswith("application/x-ndjson")
    assert result.text == reader.post(FILE, params=params, content=content, headers=CSV).text
    with served.client("operator") as other:  # another caller's is none
        for answer in other.get(f"{URL}/{id}"), other.get(f"{URL}/{id}/result"), other.delete(f"{URL}/{id}"):
            assert answer.status_code == 404
        assert id not in [job["id"] for job in other.get(URL).json()["jobs"]]
    assert reader.delete(f"{URL}/{id}").json()["state"] == "cancelled"
    assert reader.get(f"{URL}/{id}").status_code == 404
    audit = gateways.logged(served.server.state / "log" / "audit.jsonl")
    assert [entry["action"] for entry in audit if entry.get("job") == id] == ["job", "cancel-job"]
    assert not (served.server.state / "jobs" / id).exists()


def test_what_is_wrong_from_the_start_is_no_job(reader: httpx.Client) -> None:
    before = reader.get(URL).json()
    for content, params, status in (
        (b"a,b\n1,2\n", {}, 422),
        (b"PK\x03\x04 xl/workbook.xml", {}, 415),
        (b"text\na\n", {"format": "xlsx"}, 422),
        (b"text\na\n", {"model": "nobodys"}, 404),
    ):
        assert reader.post(URL, params=params, content=content, headers=CSV).status_code == status
    assert reader.post(URL, content=b"text\na\n", headers={"Content-Type": "image/png"}).status_code == 415
    assert reader.get(URL).json() == before


def test_a_job_goes_on_after_the_gateway_was_killed(served: Served, tmp_path: Path) -> None:
    stalls = Stalls(tmp_path, 1500, 1800, 2100, 2400)
    launch = gateways.launch(tmp_path, served.server.ports, hedge_share=0.0)
    first = Gateway(launch, tmp_path / "first.log")
    first.start()
    try:
        gateways.until_listening(first)
        with gateways.client(launch.settings.local_url) as client:
            id = client.post(URL, content=stalls.csv(), headers=CSV).json()["id"]
            job = until(client, id, lambda job: job["rows"] >= 1024)
            assert (job["state"], job["total"]) == ("running", ROWS)
            assert client.get(f"{URL}/{id}/result").status_code == 409
    finally:
        first.kill()
        first.wait()
    stalls.lift()
    kept = Folder(tmp_path / "jobs" / id)
    with kept.result.open("ab") as result:  # what a killed gateway had written and not made sure of
        result.write(b'{"index": 99')
    second = Gateway(launch, tmp_path / "second.log")
    second.start()
    try:
        gateways.until_listening(second)
        with gateways.client(launch.settings.local_url) as client:
            until_open(client)
            job = done(client, id)
            assert (job["state"], job["rows"], job["refused"]) == ("done", ROWS, 1)
            assert client.get(f"{URL}/{id}/result").text == client.post(FILE, content=stalls.csv(), headers=CSV).text
    finally:
        second.ask_to_stop()
        second.wait()
    begun = [entry for entry in gateways.logged(tmp_path / "second.log") if entry["event"] == "job"]
    assert begun[0]["rows"] >= 1024  # it did not begin anew


def until_open(client: httpx.Client) -> None:
    deadline = time.monotonic() + SECONDS
    while client.get(URL).status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_bounds_cancelling_and_a_key_that_is_revoked(served: Served, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    held, text = keys.create("of the job", Role.reader, None)
    stalls = Stalls(tmp_path, 10), Stalls(tmp_path, 20)
    more = {"auth": True, "max_jobs": 1, "max_jobs_mib": 1, "hedge_share": 0.0}
    with gateways.gateway(tmp_path, served.server.ports, **more) as client:
        client.headers["Authorization"] = f"Bearer {text}"
        until_open(client)
        large = client.post(URL, content=b"text\n" + b"shares and more\n" * 100_000, headers=CSV)
        assert (large.status_code, large.json()["type"]) == (507, "urn:newsdesk:problem:insufficient-storage")
        assert "--max-jobs-mib" in large.json()["detail"]
        assert [path.name for path in (tmp_path / "jobs").glob("*/")] == []
        id = client.post(URL, content=stalls[0].csv(100), headers=CSV).json()["id"]
        until(client, id, lambda job: job["state"] == "running")
        second = client.post(URL, content=b"text\nmatch\n", headers=CSV)
        assert (second.status_code, "the most that are kept for a caller" in second.json()["detail"]) == (429, True)
        assert client.delete(f"{URL}/{id}").status_code == 200
        assert client.get(URL).json() == {"jobs": []}
        stalls[0].lift()
        id = client.post(URL, content=stalls[1].csv(100), headers=CSV).json()["id"]
        until(client, id, lambda job: job["state"] == "running")
        keys.revoke(held.id)
        stalls[1].lift()
        deadline = time.monotonic() + SECONDS
        while (record := Folder(tmp_path / "jobs" / id).read()) and record.ended is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert record is not None
    assert (record.state, record.rows) == ("failed", 0)
    assert record.problem is not None
    assert "no longer valid" in record.problem["detail"]


def test_a_job_is_kept_for_some_hours_behind_its_end(tmp_path: Path) -> None:
    store = Store(tmp_path / "jobs", GatewaySettings(keys=tmp_path / "keys.json", job_hours=2))
    assert store.open()
    now = time.time()
    for hours, ended in ((3, now - 3 * 3600), (1, now - 3600), (9, None)):
        incoming = store.receive("key:1")
        asked: Any = {"form": "csv", "delimiter": "", "columns": [], "top_k": None, "quality": None}
        record = Record(
            id=incoming.folder.path.name, caller="key:1", model="ag_news", members=False, uncertainty=False,
            created=now - hours * 3600, ended=ended, state="done" if ended else "waiting", **asked,
        )  # fmt: skip
        incoming.folder.write(record)
        store.add(incoming, record)
    store.remove_old()
    assert [record.state for record in store.of("key:1")] == ["waiting", "done"]
    assert {path.name for path in (tmp_path / "jobs").glob("*/")} == {record.id for record in store.of("key:1")}
    store.close()


def test_a_model_that_fails_on_a_text_ends_the_job_with_its_problem(reader: httpx.Client) -> None:
    content = b"text\n" + b"shares\n" * 200 + b'"stand-in, fail"\n'
    id = reader.post(URL, content=content, headers=CSV).json()["id"]
    job = done(reader, id)
    assert (job["state"], job["problem"]["type"]) == ("failed", "urn:newsdesk:problem:model-failed")
    assert reader.get(f"{URL}/{id}/result").status_code == 409
    reader.delete(f"{URL}/{id}")


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    settings = GatewaySettings(keys=tmp_path / "keys.json")
    store = Store(tmp_path / "jobs", settings)
    assert store.open()
    incoming: Incoming = store.receive("key:1")
    incoming.folder.input.symlink_to("/dev/full")
    file = incoming.open()
    with pytest.raises(Full, match="disk is full"):
        file.write(b"x" * 100_000)
    incoming.discard()
    assert store.of("key:1") == []
    assert problem_of(OSError(errno.EDQUOT, "")).status_code == 507
    assert not Store(tmp_path / "jobs", settings).open()  # it is this one's
    store.close()


def test_what_was_not_taken_to_its_end_is_removed_at_the_start(tmp_path: Path) -> None:
    settings = GatewaySettings(keys=tmp_path / "keys.json")
    (tmp_path / "jobs" / "half").mkdir(parents=True)
    (tmp_path / "jobs" / "half" / "input").write_bytes(b"text\n")
    (tmp_path / "jobs" / "odd").mkdir()
    (tmp_path / "jobs" / "odd" / "job.json").write_text(json.dumps({"id": "odd"}))
    store = Store(tmp_path / "jobs", settings)
    assert store.open()
    assert store.next() is None
    assert [path.name for path in (tmp_path / "jobs").glob("*/")] == []
    store.close()

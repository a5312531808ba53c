"""Jobs by the SDK and by the command line, before a real gateway."""

import asyncio
import gzip
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from newsdesk.clients import AccessDenied, AsyncClient, Client, DeadlineExceeded, Job, RequestRefused, TextRefused
from newsdesk.clients.errors import BadResponse
from newsdesk.clients.job import Result
from newsdesk.server.gateway.keys import Role
from newsdesk.server.serving.gateway import Gateway
from tests.clients.cli.command import run
from tests.clients.triton_process import Ports, write_repository
from tests.holding import Hold
from tests.server.gateway import gateways

SECONDS = 60
TEXTS = [f"shares {row}" if row % 3 else f"match {row}" for row in range(5000)]


@pytest.fixture
def asked(gateway: str) -> Iterator[Client]:
    with Client(gateway, timeout=20) as client:
        yield client
        for job in client.jobs.all():
            client.jobs.cancel(job)


def labels(items: list[Any]) -> list[str]:
    return [item.label if not isinstance(item, TextRefused) else item.reason[:5] for item in items]


def test_rows_are_sent_and_answered_as_at_once(asked: Client) -> None:
    job = asked.jobs.submit(iter(TEXTS), top_k=2, quality="best", members=True, uncertainty=True)
    seen = list(asked.jobs.watch(job, timeout=SECONDS))
    assert seen[-1] == asked.jobs.wait(job.id) == asked.jobs.get(job)
    assert (seen[-1].state, seen[-1].rows, seen[-1].total, seen[-1].over) == ("done", 5000, 5000, True)
    assert all(before.rows <= after.rows for before, after in itertools.pairwise(seen))
    wanted = asked.classify(TEXTS, top_k=2, quality="best", members=True, uncertainty=True)
    assert list(asked.jobs.result(job)) == wanted
    assert job.id in [held.id for held in asked.jobs.all()]
    assert asked.jobs.cancel(job).state == "cancelled"
    with pytest.raises(RequestRefused, match="There is no job"):
        asked.jobs.get(job)


def test_what_is_no_utf8_is_refused_alone(asked: Client) -> None:
    rows = ["match", b"\xff shares", "half \ud800", b"shares", {"title": "the", "description": "treaty"}, " "]
    job = asked.jobs.wait(asked.jobs.submit(rows), timeout=SECONDS)
    items = list(asked.jobs.result(job))
    assert [isinstance(item, TextRefused) for item in items] == [False, True, True, False, False, True]
    assert [item.index for item in items] == list(range(6))
    assert job.refused == 3


def test_files_are_of_the_form_that_the_name_or_the_caller_says(asked: Client, tmp_path: Path) -> None:
    content = b"title;body\nthe;match\n;shares\n"
    plain, packed = tmp_path / "a.csv", tmp_path / "b.TSV.gz"
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content.replace(b";", b"\t")))
    open_file = io.BytesIO(content)
    jobs = [
        asked.jobs.submit(plain, columns=["title", "body"], delimiter=";"),
        asked.jobs.submit(str(packed), columns=["title", "body"]),
        asked.jobs.submit(open_file, columns=["title", "body"], form="csv"),
        asked.jobs.submit([]),
    ]
    results = [labels(list(asked.jobs.result(asked.jobs.wait(job, timeout=SECONDS)))) for job in jobs]
    assert results == [["Sports", "Business"]] * 3 + [[]]
    assert not open_file.closed
    for wrong in (tmp_path / "a.txt", tmp_path / "a.xlsx"):
        wrong.write_bytes(b"x")
        with pytest.raises(ValueError, match="expected form csv, jsonl or parquet"):
            asked.jobs.submit(wrong)
    with pytest.raises(FileNotFoundError):
        asked.jobs.submit(tmp_path / "none.csv")
    with pytest.raises(RequestRefused, match="column"):
        asked.jobs.submit(plain, columns=["topic"])


def test_asyncio_does_the_same(gateway: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))

    async def ask() -> list[Any]:
        async with AsyncClient(gateway, timeout=20) as client:
            job = await client.jobs.submit(file, quality="fast")
            seen = [now async for now in client.jobs.watch(job, timeout=SECONDS)]
            assert await client.jobs.wait(job) == seen[-1] == await client.jobs.get(job)
            assert [held.id for held in await client.jobs.all()] == [job.id]
            items = [item async for item in client.jobs.result(job.id)]
            assert (await client.jobs.cancel(job)).state == "cancelled"
            return items

    assert asyncio.run(ask()) == Client(gateway).classify(TEXTS, quality="fast")


def test_a_job_that_is_not_done_has_no_result(asked: Client, tmp_path: Path) -> None:
    hold = Hold(tmp_path / "hold")
    hold.folder.mkdir()
    job = asked.jobs.submit([hold.stalling])
    with pytest.raises(DeadlineExceeded):
        asked.jobs.wait(job, timeout=0.3)
    with pytest.raises(RequestRefused, match=f"the job {job.id} is (running|waiting) and has no result"):
        next(asked.jobs.result(job))
    hold.release()
    failed = asked.jobs.wait(asked.jobs.submit(["stand-in, fail"]), timeout=SECONDS)
    assert (failed.state, failed.problem != "") == ("failed", True)
    with pytest.raises(RequestRefused, match=r"is failed and has no result\. \w"):
        next(asked.jobs.result(failed))


def test_who_may_not_is_told_so_though_much_is_on_its_way(closed: tuple[str, Path]) -> None:
    """The gateway answers before it has read the file."""
    url, folder = closed
    many = ["shares and more of them"] * 100_000
    with Client(url, api_key="nd_wrong", timeout=20) as client, pytest.raises(AccessDenied):
        client.jobs.submit(many)

    async def ask() -> None:
        async with AsyncClient(url, api_key="nd_wrong", timeout=20) as client:
            await client.jobs.submit(many)

    with pytest.raises(AccessDenied):
        asyncio.run(ask())
    with Client(url, api_key=gateways.key(folder, Role.reader), timeout=20) as client:
        assert client.jobs.all() == []


def test_nobody_else_takes_jobs(triton: Ports, gateway: str) -> None:
    for url, says in ((triton.grpc_url, "give the gateway's address"), (f"{gateway},{gateway}/b", "expected one")):
        with Client(url) as client, pytest.raises(RequestRefused, match=says):
            client.jobs.all()


def test_a_gateway_that_is_started_again_meanwhile_loses_none(triton: Ports, tmp_path: Path) -> None:
    launched = gateways.launch(write_repository(tmp_path / "own"), triton.both)
    url = f"gateway+{launched.settings.local_url}"

    def started() -> Gateway:
        served = Gateway(launched, tmp_path / "gateway.log")
        served.start()
        gateways.until_listening(served)
        return served

    first = started()
    second = None
    try:
        with Client(url, timeout=SECONDS, retries=200) as client:
            many = TEXTS * 2  # of more than a block
            job = client.jobs.wait(client.jobs.submit(many), timeout=SECONDS)
            result = client.jobs.result(job)
            start = [next(result) for _ in range(10)]
            first.kill()
            first.wait()
            second = started()
            items = start + list(result)
            assert [item.index for item in items] == list(range(len(many)))
            assert items == client.classify(many)
    finally:
        for served in (first, second):
            if served:
                served.kill()
                served.wait()


def test_a_result_may_come_whole_and_must_be_one() -> None:
    job = Job("a", "done", "m", 1, 1, 0, 0.0, 1.0, "")
    line = b'{"index":0,"label":"a","probabilities":{"a":1.0},"answered_by":"m","windows":1}\n'
    result = Result(job)
    assert len(result.take((line, {}))) == 1
    assert result.request is None
    with pytest.raises(BadResponse, match="is it a gateway"):
        Result(job).take((b"<html>\n", {}))


def test_the_command(gateway: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("body\nmatch\n \nshares\n")
    environment = {"NEWSDESK_URL": gateway}
    sent = run("jobs", "submit", str(file), "--text-column", "body", "--json", **environment)
    assert sent.exit_code == 0, sent.stderr
    id = json.loads(sent.stdout)["id"]
    waited = run("jobs", "wait", id, **environment)
    assert (waited.exit_code, waited.stdout.splitlines()[-1]) == (1, f"{id}  done  3 of 3 rows, 1 refused"), (
        waited.stderr
    )
    assert f"{id}  done  3 of 3 rows, 1 refused\n" in run("jobs", **environment).stdout
    lines = [json.loads(line) for line in run("jobs", "result", id, **environment).stdout.splitlines()]
    assert [line.get("label") for line in lines] == ["Sports", None, "Business"]
    assert lines[1]["error"].startswith("empty")
    assert run("jobs", "cancel", id, **environment).stdout == f"{id}  cancelled  3 of 3 rows, 1 refused\n"
    gone = run("jobs", "status", id, **environment)
    assert (gone.exit_code, "There is no job" in gone.stderr) == (2, True)
    for wrong in (["submit"], ["status"], ["list", "x"]):
        assert run("jobs", *wrong, **environment).exit_code == 2

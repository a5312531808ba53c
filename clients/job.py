"""A job of a gateway: what is asked about one and what comes back, made and read without sending."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any, BinaryIO, Literal, Protocol, TypeVar
from urllib.parse import quote, urlencode

from newsdesk.clients.articles import Article, Text, read_row, read_rows
from newsdesk.clients.chunk import Item
from newsdesk.clients.deadline import Deadline
from newsdesk.clients.errors import BadResponse, RequestRefused, TextRefused
from newsdesk.clients.options import Options
from newsdesk.clients.prediction import Prediction
from newsdesk.clients.rows import Form
from newsdesk.clients.rows.recognise import SUFFIXES
from newsdesk.clients.transports import Address

State = Literal["waiting", "running", "done", "failed", "cancelled"]
Source = str | PathLike[str] | BinaryIO | Iterable[Text | Article]
"""The path of a file, a file that is open, or rows as `Client.classify` takes them."""
_Read = TypeVar("_Read")
ROUTE = "/v1/jobs"
_BLOCK_BYTES = 2**20
"""Bytes that are sent or asked for at once."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the gateway told of it.

    Attributes:
        state: waiting, running, done, failed, or cancelled
        rows: that are answered
        total: of the file, None until they are counted
        refused: rows that are no text
        created: seconds since 1970
        ended: seconds since 1970, None until it ends
        problem: that it met last, "" where it met none
    """

    id: str
    state: State
    model: str
    rows: int
    total: int | None
    refused: int
    created: float
    ended: float | None
    problem: str

    @property
    def over(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self.state not in ("waiting", "running")


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A request to a gateway. One whose body can be read only once is not sent again."""

    method: str
    path: str
    body: bytes | Iterator[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Reply = tuple[bytes, Mapping[str, str]]


class Sender(Protocol):
    """A transport to a gateway."""

    def send(self, request: JobRequest, timeout: float) -> Reply:
        """Send a request, and return the body and the headers of its answer, within `timeout` seconds."""


class AsyncSender(Protocol):
    """A transport to a gateway, for asyncio."""

    async def send(self, request: JobRequest, timeout: float) -> Reply:
        """Send a request, and return the body and the headers of its answer, within `timeout` seconds."""


def check(addresses: Sequence[Address]) -> None:
    """Check that jobs can be sent to an address.

    Raises:
        RequestRefused: it is no gateway's REST, or there are several.
    """
    if len(addresses) > 1:
        raise RequestRefused("several gateways are named, expected one: a job is known to the one that took it")
    if not addresses[0].scheme.startswith("gateway"):
        raise RequestRefused(
            f"{addresses[0].url} takes no jobs: give the gateway's address, as gateway+http://127.0.0.1:8080"
        )


def submission(
    source: Source, columns: Sequence[str], delimiter: str, form: Form | str | None, options: Options
) -> JobRequest:
    """Return the request that sends a file or rows.

    Args:
        source: a path, an open file, or rows
        columns: of the text, joined by a space
        delimiter: of a CSV's cells; empty: recognised
        form: where no name says it
        options: of the answers

    Raises:
        ValueError: the file is of another form.
        OSError: the file cannot be opened.
    """
    if isinstance(source, str | PathLike):
        path = fspath(source)
        form = form or SUFFIXES.get("." + path.lower().removesuffix(".gz").rpartition(".")[2])
        # Opened here, so that a file that cannot be is no request.
        body = _read(open(path, "rb"), close=True)  # noqa: SIM115
    elif hasattr(source, "read"):
        path, body = "the file", _read(source, close=False)
    else:
        path, form, body = "the rows", Form.jsonl, _lines(read_rows(source))
    if form not in (Form.csv, Form.jsonl, Form.parquet):
        raise ValueError(f"{path} is {form or 'of no form that its name says'}, expected form csv, jsonl or parquet")
    asked: dict[str, Any] = {"format": str(form), "column": columns, "delimiter": delimiter, "model": options.model}
    asked |= {"top_k": options.top_k, "quality": options.quality}
    asked |= {name: "true" for name in ("members", "uncertainty") if getattr(options, name)}
    query = urlencode({name: value for name, value in asked.items() if value}, doseq=True)
    return JobRequest("POST", f"{ROUTE}?{query}", body, {"Content-Type": "application/octet-stream"})


def of(job: Job | str, method: str = "GET") -> JobRequest:
    """Return the request about a job."""
    return JobRequest(method, f"{ROUTE}/{quote(job if isinstance(job, str) else job.id, safe='')}")


def read(body: bytes) -> Job:
    """Return the job that an answer tells of.

    Raises:
        BadResponse: it tells of none.
    """
    return _decoded(lambda: _job(json.loads(body)))


def read_all(body: bytes) -> list[Job]:
    """Return the jobs that an answer tells of.

    Raises:
        BadResponse: it tells of none.
    """
    return _decoded(lambda: [_job(job) for job in json.loads(body)["jobs"]])


class Result:
    """The lines of a job's result, a block at a time: `request` asks for the next, and is None behind the last."""

    def __init__(self, job: Job) -> None:
        """Begin with the first block.

        Raises:
            RequestRefused: the job is not done.
        """
        if job.state != "done":
            raise RequestRefused(f"the job {job.id} is {job.state} and has no result. {job.problem}".rstrip())
        self._path = f"{of(job).path}/result"
        self._at, self._size, self._cut = 0, _BLOCK_BYTES if job.rows else 0, b""

    @property
    def request(self) -> JobRequest | None:
        """The request for the next block, None behind the last."""
        if self._at >= self._size:
            return None
        return JobRequest("GET", self._path, None, {"Range": f"bytes={self._at}-{self._at + _BLOCK_BYTES - 1}"})

    def take(self, reply: Reply) -> list[Item]:
        """Return the items of a block.

        Raises:
            BadResponse: it is empty, or cannot be read.
        """
        body, headers = reply
        whole = headers.get("Content-Range", "").rpartition("/")[2]  # a proxy may give all at once, without one
        self._at += len(body)
        self._size = int(whole) if whole.isdecimal() else self._at
        if not body:
            raise BadResponse("a block of the result is empty: is it a gateway?")
        *lines, self._cut = (self._cut + body).split(b"\n")
        return _decoded(lambda: [_item(json.loads(line)) for line in lines])


class Watch:
    """The pauses between two looks at a job, until its time is up."""

    def __init__(self, deadline: Deadline | None) -> None:
        self._deadline, self._pause = deadline, _FIRST_PAUSE
        self._last: Job | None = None

    def news(self, job: Job) -> bool:
        """Whether it has come on since the last look."""
        moved, self._last = job != self._last, job
        if moved:
            self._pause = _FIRST_PAUSE
        return moved

    def pause(self) -> float:
        """Return the seconds until the next look.

        Raises:
            DeadlineExceeded: the time is up.
        """
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        return min(pause, self._deadline.left()) if self._deadline else pause


def _read(file: Any, close: bool) -> Iterator[bytes]:
    try:
        while block := file.read(_BLOCK_BYTES):
            yield block
    finally:
        if close:
            file.close()


def _lines(rows: Iterable[Any]) -> Iterator[bytes]:
    held = bytearray()
    for index, row in enumerate(rows):
        held += _line(read_row(row, index))
        if len(held) >= _BLOCK_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _line(text: Text) -> bytes:
    """Return a row of JSON Lines. Bytes that are no UTF-8 stay as they are, and the gateway refuses that row alone."""
    if isinstance(text, bytes):
        escaped = json.dumps({"text": text.decode(errors="surrogateescape")}, ensure_ascii=False)
        return escaped.encode(errors="surrogateescape") + b"\n"
    return json.dumps({"text": text}, ensure_ascii=False).encode(errors="surrogatepass") + b"\n"


def _job(body: Mapping[str, Any]) -> Job:
    problem = body["problem"] or {}
    counts = {name: body[name] for name in ("rows", "total", "refused", "created", "ended")}
    return Job(body["id"], body["state"], body["model"], **counts, problem=str(problem.get("detail", "")))


def _item(line: Mapping[str, Any]) -> Item:
    if "error" in line:
        return TextRefused(line["index"], line["error"])
    parts = line.get("uncertainty")
    return Prediction(
        line["index"],
        line["label"],
        line["probabilities"],
        line["answered_by"],
        line["windows"],
        line.get("members"),
        line.get("unsure"),
        (parts["total"], parts["data"], parts["model"]) if parts else None,
        line.get("version", ""),
    )


def _decoded(decode: Callable[[], _Read]) -> _Read:
    try:
        return decode()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadResponse(f"an answer cannot be read ({error!r}): is it a gateway?") from error

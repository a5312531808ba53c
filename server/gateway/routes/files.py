"""A file up, a line for each of its texts down, as the answers come."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from itertools import chain
from typing import Annotated, Any, BinaryIO

import msgspec
from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse

from newsdesk.clients import NewsdeskError, Quality
from newsdesk.server.contract import MAX_BATCH
from newsdesk.server.gateway import lines, models, problems
from newsdesk.server.gateway.auth import CHECK_SECONDS, only
from newsdesk.server.gateway.jobs.store import problem_of
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.observed import FILE_ROUTE, MODEL_FILE_ROUTE
from newsdesk.server.gateway.plane import CallOptions, Plane
from newsdesk.server.gateway.problems import Invalid, Problem
from newsdesk.server.gateway.schemas import documented
from newsdesk.server.gateway.uploads import FileForm, UploadedRow, batches, form_of

router = APIRouter(tags=["classify"])
_BUFFER = 2**20
_BODY = {"schema": {"type": "string", "format": "binary"}}
_UPLOAD = {"schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}}
_TAKEN = {"text/csv": _BODY, "application/x-ndjson": _BODY, "application/vnd.apache.parquet": _BODY}
BODY = {"requestBody": {"required": True, "content": {**_TAKEN, "multipart/form-data": _UPLOAD}}}
"""OpenAPI's description of a body that is a file."""


def _file_route(*codes: int) -> dict[str, Any]:
    """Return how a route that takes a file is documented; `codes` are those of errors that are its own."""
    answered = {"description": "A line of JSON for each text, in order", "content": {"application/x-ndjson": _BODY}}
    return {
        "dependencies": only(Role.reader),
        "response_class": StreamingResponse,
        "responses": {200: answered, **documented(400, 401, 403, *codes, 408, 413, 415, 422, 429, 503, 504, 507)},
        "openapi_extra": BODY,
    }


@router.post(MODEL_FILE_ROUTE, **_file_route(404))
@router.post(FILE_ROUTE, **_file_route())
async def classify_file(
    request: Request,
    form: Annotated[FileForm | None, Query(alias="format", description="Else the type or the name says it.")] = None,
    delimiter: Annotated[
        str, Query(max_length=9, description="Of a CSV's cells: a character, or comma, tab …; recognised without.")
    ] = "",
    column: Annotated[list[str], Query(description="Columns of the text, joined by a space; `text` without.")] = [],  # noqa: B006
    top_k: Annotated[int | None, Query(ge=1, le=1000)] = None,
    quality: Annotated[Quality | None, Query(description="As of /v1/classify.")] = None,
    members: Annotated[bool, Query(description="As of /v1/classify.")] = False,
    uncertainty: Annotated[bool, Query(description="As of /v1/classify.")] = False,
    model: str = "",
) -> StreamingResponse:
    """Classify the texts of a CSV, JSONL or Parquet file: the body itself, or `file` of a form.

    A line is an item of /v1/classify: `{"index", "label", "probabilities", "answered_by", "windows"}` and, where the
    model says it, `"unsure"`; or `{"index", "error"}` for a row that cannot be read; `"line"` is the
    one of the file that its row begins in. What the file is its first bytes
    say before its name: packed by gzip, in UTF-16, Parquet. Where the rest of the file cannot be answered, the last
    line is `{"problem": …}`.
    """
    asked, plane = CallOptions(top_k, quality, members, uncertainty), models.of(request, model).plane
    try:
        file, content_type, name = await received(request)
    except OSError as error:  # no room for temporary files
        raise problem_of(error) from error
    try:
        read = batches(file, form_of(form, content_type, name), column, delimiter, MAX_BATCH)
        first = await lines.following(read)  # what is wrong from the start has a status of its own
    except BaseException:
        file.close()
        raise
    return StreamingResponse(_lines(request, plane, file, first, read, asked), media_type="application/x-ndjson")


async def received(
    request: Request, made: Callable[[], BinaryIO] = tempfile.TemporaryFile
) -> tuple[BinaryIO, str, str]:
    """Take the whole file to disk, so that callers who first send and then read don't wait for themselves.

    Args:
        request: with the file as its body, or as `file` of a form
        made: makes the file for a body; that of a form is a temporary one

    Returns:
        The file, its type and its name.

    Raises:
        Invalid: the form has no file.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        upload = (await request.form(max_files=1, max_fields=1)).get("file")
        if not isinstance(upload, UploadFile):
            raise Invalid("The form has no file named `file`.")
        return upload.file, (upload.content_type or "").partition(";")[0].strip().lower(), upload.filename or ""
    file = made()
    try:
        held = bytearray()
        async for chunk in request.stream():
            held += chunk
            if len(held) >= _BUFFER:
                await run_in_threadpool(file.write, bytes(held))
                held.clear()
        file.write(held)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file, content_type, ""


async def _lines(
    request: Request,
    plane: Plane,
    file: BinaryIO,
    first: list[UploadedRow],
    read: Iterator[list[UploadedRow]],
    asked: CallOptions,
) -> AsyncIterator[bytes]:
    state = request.state
    state.texts = state.refused = 0
    problem: HTTPException | None = None
    due = time.monotonic() + CHECK_SECONDS
    try:
        async with aclosing(lines.answer(plane, chain([first], read), asked)) as answers:
            async for answered in answers:
                if time.monotonic() >= due:
                    await request.app.state.gate.check(request, Role.reader)
                    due = time.monotonic() + CHECK_SECONDS
                state.texts += answered.texts
                state.refused += answered.refused
                yield answered.data
    except NewsdeskError as error:
        problem = problems.problem_of(error)
    except HTTPException as error:
        problem = error
    except Exception as error:
        problem = lines.unexpected(error)
    finally:
        await asyncio.shield(run_in_threadpool(file.close))
    if problem:
        state.cause = problem.kind if isinstance(problem, Problem) else "http"
        yield msgspec.json.encode({"problem": problems.describe(problem, state.request_id)}) + b"\n"

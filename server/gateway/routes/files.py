"""A file up, a line for each of its texts down, as the answers come."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Annotated, BinaryIO

import msgspec
from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import StreamingResponse

from newsdesk.clients import NewsdeskError, Quality, TextRefused
from newsdesk.server.gateway import problems
from newsdesk.server.gateway.auth import CHECK_SECONDS, only
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.observed import FILE_ROUTE
from newsdesk.server.gateway.plane import STREAM_TEXTS, Asked, Plane, Text
from newsdesk.server.gateway.problems import Invalid, Problem
from newsdesk.server.gateway.schemas import documented, shown
from newsdesk.server.gateway.uploads import Form, batches, form_of

router = APIRouter(tags=["classify"])
_BUFFER = 2**20
_BODY = {"schema": {"type": "string", "format": "binary"}}
_UPLOAD = {"schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}}
_TAKEN = {"text/csv": _BODY, "application/x-ndjson": _BODY, "application/vnd.apache.parquet": _BODY}


@router.post(
    FILE_ROUTE,
    dependencies=only(Role.reader),
    response_class=StreamingResponse,
    responses={
        200: {"description": "A line of JSON for each text, in order", "content": {"application/x-ndjson": _BODY}},
        **documented(400, 401, 403, 408, 413, 415, 422, 429, 503, 504),
    },
    openapi_extra={"requestBody": {"required": True, "content": {**_TAKEN, "multipart/form-data": _UPLOAD}}},
)
async def classify_file(
    request: Request,
    form: Annotated[Form | None, Query(alias="format", description="Else the type or the name says it.")] = None,
    column: Annotated[list[str], Query(description="Columns of the text, joined by a space; `text` without.")] = [],  # noqa: B006
    top_k: Annotated[int | None, Query(ge=1, le=1000)] = None,
    quality: Annotated[Quality | None, Query(description="As of /v1/classify.")] = None,
    members: Annotated[bool, Query(description="As of /v1/classify.")] = False,
    uncertainty: Annotated[bool, Query(description="As of /v1/classify.")] = False,
) -> StreamingResponse:
    """Classify the texts of a CSV, JSONL or Parquet file: the body itself, or `file` of a form.

    A line is an item of /v1/classify: `{"index", "label", "probabilities", "answered_by", "windows"}` and, where the
    model says it, `"unsure"`; or `{"index", "error"}` for a text that cannot be read. Where the rest of the file cannot
    be answered, the last line is `{"problem": …}`.
    """
    asked = Asked(top_k, quality, members, uncertainty)
    file, content_type, name = await _received(request)
    try:
        read = batches(file, form_of(form, content_type, name), column, STREAM_TEXTS)
        first = await _next(read)  # what is wrong from the start has a status of its own
    except BaseException:
        file.close()
        raise
    return StreamingResponse(_lines(request, file, first, read, asked), media_type="application/x-ndjson")


async def _received(request: Request) -> tuple[BinaryIO, str, str]:
    """Take the whole file to disk, so that callers who first send and then read don't wait for themselves.

    Returns the file, its type and its name. Raises Invalid.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        upload = (await request.form(max_files=1, max_fields=1)).get("file")
        if not isinstance(upload, UploadFile):
            raise Invalid("The form has no file named `file`.")
        return upload.file, (upload.content_type or "").partition(";")[0].strip().lower(), upload.filename or ""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the response closes it
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
    request: Request, file: BinaryIO, first: list[Text], read: Iterator[list[Text]], asked: Asked
) -> AsyncIterator[bytes]:
    plane: Plane = request.app.state.plane
    state = request.state
    state.texts = state.refused = 0
    due = time.monotonic() + CHECK_SECONDS
    try:
        failed: list[Problem] = []
        async with aclosing(plane.stream(_read(first, read, failed), asked)) as answers:
            async for items in answers:
                if time.monotonic() >= due:
                    await request.app.state.gate.check(request, Role.reader)
                    due = time.monotonic() + CHECK_SECONDS
                state.texts += len(items)
                state.refused += sum(isinstance(item, TextRefused) for item in items)
                yield b"".join(msgspec.json.encode(shown(item)) + b"\n" for item in items)
        if failed:
            raise failed[0]
    except (NewsdeskError, Problem) as error:
        problem = problems.problem_of(error) if isinstance(error, NewsdeskError) else error
        state.cause = problem.kind
        yield msgspec.json.encode({"problem": problems.describe(problem, state.request_id)}) + b"\n"
    finally:
        await asyncio.shield(run_in_threadpool(file.close))


async def _read(first: list[Text], read: Iterator[list[Text]], failed: list[Problem]) -> AsyncIterator[list[Text]]:
    """Yield the batches. A problem in the file is kept for when all that comes before it is answered."""
    batch = first
    try:
        while batch:
            yield batch
            batch = await _next(read)
    except Problem as problem:
        failed.append(problem)


async def _next(read: Iterator[list[Text]]) -> list[Text]:
    return await run_in_threadpool(lambda: next(read, []))

"""Files that outlast a connection: sent once, answered behind everybody else, fetched when they are done."""

import shutil
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse

from newsdesk.clients import Quality
from newsdesk.server.contract import MAX_BATCH
from newsdesk.server.gateway import lines, models
from newsdesk.server.gateway.auth import Caller, requires
from newsdesk.server.gateway.jobs.record import Record
from newsdesk.server.gateway.jobs.runner import Runner
from newsdesk.server.gateway.jobs.store import Incoming, Store, problem_of
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.observed import JOBS_ROUTE
from newsdesk.server.gateway.plane import CallOptions
from newsdesk.server.gateway.problems import Conflict
from newsdesk.server.gateway.routes.files import BODY, received
from newsdesk.server.gateway.schemas import documented
from newsdesk.server.gateway.uploads import FileForm, batches, form_of

router = APIRouter(prefix=JOBS_ROUTE, tags=["jobs"])
Reader = Annotated[Caller, Depends(requires(Role.reader))]
_PROBLEMS = documented(401, 403, 404, 429, 503)
_LINES = "application/x-ndjson"


@router.post(
    "",
    status_code=202,
    responses=documented(400, 401, 403, 404, 408, 413, 415, 422, 429, 503, 507),
    openapi_extra=BODY,
)
async def create(
    request: Request,
    caller: Reader,
    form: Annotated[FileForm | None, Query(alias="format", description="Else the type or the name says it.")] = None,
    delimiter: Annotated[str, Query(max_length=9, description="As of /v1/classify/file.")] = "",
    column: Annotated[list[str], Query(description="As of /v1/classify/file.")] = [],  # noqa: B006
    top_k: Annotated[int | None, Query(ge=1, le=1000)] = None,
    quality: Annotated[Quality | None, Query(description="As of /v1/classify.")] = None,
    members: Annotated[bool, Query(description="As of /v1/classify.")] = False,
    uncertainty: Annotated[bool, Query(description="As of /v1/classify.")] = False,
    model: Annotated[str, Query(description="Which model, where there are several.")] = "",
) -> JSONResponse:
    """Take a file as /v1/classify/file does, and answer at once with the id of the job that classifies its texts.

    It goes on without the connection, and after a restart. A job is its caller's alone.
    """
    name = models.of(request, model).name
    store: Store = request.app.state.jobs
    incoming = store.receive(caller.id)
    try:
        form = await _taken(request, incoming, form, column, delimiter)
        asked = CallOptions(top_k, quality, members, uncertainty)
        record = Record(
            id=incoming.folder.path.name,
            caller=caller.id,
            model=name,
            form=form,
            delimiter=delimiter,
            columns=column,
            top_k=asked.top_k,
            quality=asked.quality,
            members=asked.members,
            uncertainty=asked.uncertainty,
            created=time.time(),
        )
        await _write(incoming, record)
        store.add(incoming, record)
    except BaseException:
        incoming.discard()
        raise
    runner: Runner = request.app.state.runner
    runner.notice()
    _audit(request, caller, "job", record.id)
    return JSONResponse(record.shown(), 202, {"Location": f"{JOBS_ROUTE}/{record.id}"})


@router.get("", responses=documented(401, 403, 429, 503))
async def list_jobs(request: Request, caller: Reader) -> dict[str, Any]:
    """The caller's own jobs, the oldest first."""
    store: Store = request.app.state.jobs
    return {"jobs": [record.shown() for record in store.of(caller.id)]}


@router.get("/{id}", responses=_PROBLEMS)
async def job(request: Request, id: str, caller: Reader) -> dict[str, Any]:
    """How far a job is: `state` waiting, running, done or failed, `rows` of `total`, and the `problem` it met last."""
    store: Store = request.app.state.jobs
    return store.find(id, caller.id).shown()


@router.get("/{id}/result", response_class=FileResponse, responses=_PROBLEMS | documented(409))
async def result(request: Request, id: str, caller: Reader) -> FileResponse:
    """The lines of a job that is done, as /v1/classify/file answers them."""
    store: Store = request.app.state.jobs
    record = store.find(id, caller.id)
    if record.state != "done":
        raise Conflict(
            f"The job is {record.state}, with {record.rows} rows answered: its result is there when it is done."
        )
    return FileResponse(store.folder(id).result, media_type=_LINES, filename=f"{id}.jsonl")


@router.delete("/{id}", responses=_PROBLEMS)
async def cancel(request: Request, id: str, caller: Reader) -> dict[str, Any]:
    """End a job where it is not at its end, and remove its file and its result."""
    store: Store = request.app.state.jobs
    record = store.find(id, caller.id)
    runner: Runner = request.app.state.runner
    await runner.cancel(id)
    _audit(request, caller, "cancel-job", id)
    return record.shown() | {"state": "cancelled"}


async def _write(incoming: Incoming, record: Record) -> None:
    """Raises Full."""
    try:
        await run_in_threadpool(incoming.folder.write, record)
    except OSError as error:
        raise problem_of(error) from error


async def _taken(
    request: Request, incoming: Incoming, form: FileForm | None, column: list[str], delimiter: str
) -> FileForm:
    """Take the file of a job, and return its form. Raises Problem for what is wrong with it from the start, or Full."""
    try:
        file, content_type, name = await received(request, incoming.open)
        try:
            if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
                kept = incoming.open()
                await run_in_threadpool(shutil.copyfileobj, file, kept)
                kept.close()
        finally:
            file.close()
        form = form_of(form, content_type, name)
        with incoming.folder.input.open("rb") as written:
            await lines.following(batches(written, form, column, delimiter, MAX_BATCH))
        return form
    except OSError as error:
        raise problem_of(error) from error


def _audit(request: Request, caller: Caller, action: str, job: str) -> None:
    state = request.app.state
    entry = {"action": action, "job": job, "outcome": "done"}
    state.audit.write(request_id=request.state.request_id, caller=caller.id, role=caller.role.name, **entry)

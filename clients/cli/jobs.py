"""`newsdesk jobs`: files that a gateway answers in its own time."""

import json
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from newsdesk.clients.chunk import Item
from newsdesk.clients.cli.options import (
    GATEWAY_URL,
    ApiKey,
    AsJson,
    Delimiter,
    GatewayUrl,
    InputForm,
    Model,
    ReaderOptions,
    ServerOptions,
    TextColumns,
    Timeout,
    TlsCa,
    TlsCert,
    TlsKey,
    Uncertainty,
    certificates,
)
from newsdesk.clients.client import Client
from newsdesk.clients.errors import NewsdeskError, TextRefused
from newsdesk.clients.job import Job
from newsdesk.clients.options import AnswerOptions
from newsdesk.server.contract import Quality


class JobAction(StrEnum):
    """The things to do with jobs."""

    list = "list"
    submit = "submit"
    status = "status"
    wait = "wait"
    result = "result"
    cancel = "cancel"


def jobs(
    action: Annotated[
        JobAction, typer.Argument(help="What to do with a job; `wait` says how far it is.")
    ] = JobAction.list,
    target: Annotated[
        str, typer.Argument(metavar="[FILE or ID]", help="The file to submit, or the job.", show_default=False)
    ] = "",
    input_form: InputForm = None,
    text_column: TextColumns = None,
    delimiter: Delimiter = "",
    quality: Annotated[Quality | None, typer.Option(help="As of classify.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, metavar="N", help="Labels of each answer (default: all).")] = None,
    members: Annotated[bool, typer.Option("--members", help="What each member said by itself, too.")] = False,
    uncertainty: Uncertainty = False,
    url: GatewayUrl = GATEWAY_URL,
    api_key: ApiKey = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    model: Model = "",
    timeout: Timeout = 30.0,
    as_json: AsJson = False,
) -> None:
    """Have a gateway answer a file in its own time, and fetch the answers: a line of JSON for each row.

    Exit code: 0 done, 1 the job failed or rows are refused (wait, result), 2 wrong usage, refused or no gateway.
    """
    how = ReaderOptions(form=input_form, columns=text_column or [], delimiter=delimiter)
    options = AnswerOptions(top_k=top_k, quality=quality, members=members, uncertainty=uncertainty)
    incomplete = False

    def show(job: Job) -> None:
        typer.echo(json.dumps(asdict(job)) if as_json else _line(job))

    try:
        if bool(target) == (action is JobAction.list):
            raise ValueError("expected a file to submit, the id of a job for the others, and nothing for list")
        server = ServerOptions(timeout=timeout, model="", api_key=api_key, **certificates(tls_ca, tls_cert, tls_key))
        with Client(url, **server) as client:
            taken = client.jobs
            if action is JobAction.list:
                for job in taken.all():
                    show(job)
            elif action is JobAction.submit:
                show(taken.submit(target, **how, **options, model=model))
            elif action is JobAction.wait:
                for job in taken.watch(target):
                    show(job)
                    incomplete = job.state == "failed" or job.refused > 0
            elif action is JobAction.result:
                for item in taken.result(target):
                    typer.echo(json.dumps(_answer(item), ensure_ascii=False))
                    incomplete = incomplete or isinstance(item, TextRefused)
            else:
                show(taken.cancel(target) if action is JobAction.cancel else taken.get(target))
    except BrokenPipeError:
        raise
    except (NewsdeskError, OSError, ValueError) as error:
        typer.echo(f"newsdesk: {error}", err=True)
        raise typer.Exit(2) from error
    if incomplete:
        raise typer.Exit(1)


def _answer(item: Item) -> dict[str, Any]:
    return {"index": item.index, "error": item.reason} if isinstance(item, TextRefused) else item.as_object()


def _line(job: Job) -> str:
    rows = f"{job.rows} of {'?' if job.total is None else job.total} rows"
    refused = f", {job.refused} refused" if job.refused else ""
    return f"{job.id}  {job.state}  {rows}{refused}{f'; {job.problem}' if job.problem else ''}"

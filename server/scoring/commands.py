"""The command `newsdesk score`. Its packages are imported when it runs."""

import json
import sys
import time
from dataclasses import asdict, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from newsdesk.clients.cli.options import Delimiter, TextColumns, Uncertainty
from newsdesk.clients.rows import Form
from newsdesk.server.contract import DEFAULT_QUALITY, Quality
from newsdesk.server.runtime.errors import ServerError
from newsdesk.server.serving.commands import configured
from newsdesk.server.serving.settings import Settings, granted_cores

if TYPE_CHECKING:
    from newsdesk.server.scoring.answers import ScoringModel
    from newsdesk.server.scoring.work import Workers


class On(StrEnum):
    """processes: of this machine. ray: the nodes of a Ray cluster."""

    processes = "processes"
    ray = "ray"


@configured("model_repository", "model", "state", "target", "threads", "unsure_share")
def score(
    source: Annotated[
        str, typer.Argument(metavar="IN", help="A .parquet, .csv or .jsonl, plain or .gz, or a folder; s3:// too.")
    ],
    out: Annotated[str, typer.Argument(metavar="OUT", help="The file to write, or the folder; s3:// too.")],
    *,
    settings: Settings,
    text_column: TextColumns = None,
    delimiter: Delimiter = "",
    input_form: Annotated[
        Form | None, typer.Option("--input-format", help="What IN is (default: by its first bytes and name).")
    ] = None,
    quality: Annotated[
        Quality, typer.Option(help="How sure a cheap member must be to answer alone.")
    ] = DEFAULT_QUALITY,
    uncertainty: Uncertainty = False,
    prefix: Annotated[str, typer.Option(metavar="TEXT", help="How the names of the added columns begin.")] = "",
    workers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Processes, or tasks; 0: one for each core granted.")
    ] = 0,
    on: Annotated[On, typer.Option(help="Where the model is computed; RAY_ADDRESS names a cluster.")] = On.processes,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew, whatever is there of OUT.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write how it went as JSON.")] = False,
) -> None:
    """Score files of rows without a server: the same answers, on all cores.

    Ended at any time and run again, it goes on, and writes the same. Exit code: 0 all answered, 1 some rows refused,
    2 wrong usage, or files that could not be read.
    """
    from newsdesk.server.scoring.chunks import Reading
    from newsdesk.server.scoring.job import ScoringJob, run

    try:
        model = _model(settings, quality)
        job = ScoringJob(
            source, out, model, Reading(text_column or [], delimiter, input_form), prefix, uncertainty, overwrite
        )
        outcome = run(job, _workers(model, on, workers), _say)
    except (ServerError, OSError) as error:
        typer.echo(f"newsdesk: {error}", err=True)
        raise typer.Exit(2) from error
    rate = outcome.scored / outcome.seconds if outcome.seconds else 0.0
    if as_json:
        print(json.dumps({**asdict(outcome), "rows_per_second": round(rate, 1)}))
    else:
        count = "1 file" if outcome.files == 1 else f"{outcome.files} files"
        print(f"{outcome.rows:,} rows of {count} in {out}, {outcome.refused:,} without an answer; {rate:,.0f} rows/s")
    if outcome.failed or outcome.refused:
        raise typer.Exit(2 if outcome.failed else 1)


def _model(settings: Settings, quality: Quality) -> "ScoringModel":
    """Return the model that is meant, with the targets that `serve` would serve it with."""
    from newsdesk.server.runtime import repository
    from newsdesk.server.scoring.answers import ScoringModel
    from newsdesk.server.serving import deployment

    name = repository.only(settings.model_repository, settings.model)
    (deployed,), _ = deployment.arrange(replace(settings, model=(name,)), _say)
    return ScoringModel(deployed.version(), deployed.target, deployed.threads, settings.unsure_share, quality)


def _workers(model: "ScoringModel", on: On, count: int) -> "Workers":
    if on is On.ray:
        from newsdesk.server.scoring.cluster import Cluster

        return Cluster(model, count)
    from newsdesk.server.scoring.local import Processes

    return Processes(model, count or max(1, granted_cores() // model.threads))


def _say(what: str) -> None:
    print(f"newsdesk {time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)

"""The `newsdesk` command."""

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from newsdesk.clients.articles import Text
from newsdesk.clients.cli.commands import CommandGroup
from newsdesk.clients.cli.feedback import feedback
from newsdesk.clients.cli.formats import Format, header, line
from newsdesk.clients.cli.jobs import jobs
from newsdesk.clients.cli.models import models
from newsdesk.clients.cli.options import (
    ApiKey,
    Delimiter,
    InputForm,
    Model,
    ReaderOptions,
    ServerOptions,
    TextColumns,
    Timeout,
    TlsCa,
    TlsCert,
    TlsKey,
    Url,
    certificates,
)
from newsdesk.clients.cli.selection import select
from newsdesk.clients.cli.texts import FIRST_RETRIES, AnswersInOrder, opened, shown_progress
from newsdesk.clients.client import DEFAULT_URL, Client
from newsdesk.clients.environment import Command
from newsdesk.clients.errors import NewsdeskError, TextRefused
from newsdesk.clients.options import AnswerOptions
from newsdesk.clients.rows import RowRefusal, RowsError, as_sent
from newsdesk.server.contract import DEFAULT_QUALITY, Quality

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command line."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"newsdesk {version('newsdesk')}")
        raise typer.Exit


@app.callback()
def newsdesk(
    shown: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Give texts their labels, by classifiers of your own or the one that it ships with, which reads news."""


app.command(cls=Command)(models)
app.command(cls=Command)(select)
app.command(cls=Command)(feedback)
app.command(cls=Command)(jobs)


@app.command(cls=Command)
def classify(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXTS", help="Without any, standard input is read.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="A .txt (a text a line), .csv, .jsonl or .parquet, or .gz; - is stdin.",
        ),
    ] = None,
    input_form: InputForm = None,
    text_column: TextColumns = None,
    delimiter: Delimiter = "",
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    model: Model = "",
    form: Annotated[
        Format, typer.Option("--format", help="How answers are written, a line a text (csv: ' before =, +, -, @).")
    ] = (Format.text),
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    top_k: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Labels of each answer (default: all; 1 as text).")
    ] = None,
    quality: Annotated[
        Quality | None,
        typer.Option(help=f"How sure a cheap member must be to answer alone (default: {DEFAULT_QUALITY})."),
    ] = None,
    members: Annotated[
        bool, typer.Option("--members", help="What each member said by itself, too; with --format json.")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="How uncertain an answer is, too; with --format json or csv.")
    ] = False,
    timeout: Timeout = 30.0,
) -> None:
    """Classify texts: arguments, lines of standard input, or a file.

    Exit code: 0 all answered, 1 some texts refused, 2 wrong usage or no server.
    """
    try:
        form = Format.json if as_json else form
        if members and form is not Format.json:
            raise ValueError("--members needs --json")
        if uncertainty and form is Format.text:
            raise ValueError("--uncertainty needs --json, or --format csv")
        options = AnswerOptions(
            top_k=top_k or (1 if form is Format.text else None),
            quality=quality,
            members=members,
            uncertainty=uncertainty,
        )
        with ExitStack() as stack:
            if texts and texts != ["-"]:
                if file or text_column or input_form or delimiter:
                    raise ValueError("texts are given, and --file or how to read it too: expected one or the other")
                rows: Iterable[Text | RowRefusal] = map(as_sent, texts)
            else:
                how = ReaderOptions(form=input_form, columns=text_column or [], delimiter=delimiter)
                reader = stack.enter_context(opened(file or Path("-"), how))
                rows = stack.enter_context(shown_progress(reader, reader.texts()))
            server = ServerOptions(
                timeout=timeout, model=model, api_key=api_key, **certificates(tls_ca, tls_cert, tls_key)
            )
            with Client(url, retries=FIRST_RETRIES, **server) as first:
                first.labels()
            client = stack.enter_context(Client(url, **server))
            count, refused = _answer(client, rows, form, options)
    except BrokenPipeError:
        raise
    except (NewsdeskError, RowsError, OSError, ValueError) as error:
        typer.echo(f"newsdesk: {error}", err=True)
        raise typer.Exit(2) from error
    if refused:
        typer.echo(f"newsdesk: {refused} of {count} texts refused", err=True)
        raise typer.Exit(1)


def _answer(
    client: Client, texts: Iterable[Text | RowRefusal], form: Format, options: AnswerOptions
) -> tuple[int, int]:
    """Write the answers as they come. Returns how many, and how many of them are refusals.

    What ends the reading of the texts is raised when all that came before it is written.
    """
    labels = client.labels()
    count = refused = 0
    sys.stdout.write(header(form, labels, options["uncertainty"]))
    try:
        for item, text in AnswersInOrder(client, texts, options):
            sys.stdout.write(_printable(line(form, item, text, labels, options["uncertainty"])))
            count += 1
            refused += isinstance(item, TextRefused)
    finally:
        sys.stdout.flush()
    return count, refused


def _printable(text: str) -> str:
    """Replace what standard output's encoding does not know, lone surrogates among it."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)

"""`newsdesk feedback`: the right labels of texts, one or a file's, for a gateway that keeps them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

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
    certificates,
)
from newsdesk.clients.cli.texts import opened
from newsdesk.clients.client import Client
from newsdesk.clients.errors import NewsdeskError
from newsdesk.clients.feedback import Correction
from newsdesk.clients.rows import FileRow, RowRefusal, RowsError, as_sent

_SHOWN = 5
"""Rows that are refused, as many as are named."""


def feedback(
    text: Annotated[str | None, typer.Argument(help="The text; or --file.", show_default=False)] = None,
    label: Annotated[str, typer.Option(help="Its right label.", show_default=False)] = "",
    predicted: Annotated[str, typer.Option(help="The label that was wrong.", show_default=False)] = "",
    note: Annotated[str, typer.Option(help="For who reads the corrections.", show_default=False)] = "",
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="A .csv, .jsonl or .parquet, or .gz; - is stdin."),
    ] = None,
    input_form: InputForm = None,
    text_column: TextColumns = None,
    label_column: Annotated[
        str, typer.Option(metavar="NAME", help="Column of the label; rows without one are passed over.")
    ] = "label",
    delimiter: Delimiter = "",
    url: GatewayUrl = GATEWAY_URL,
    api_key: ApiKey = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    model: Model = "",
    timeout: Timeout = 30.0,
    as_json: AsJson = False,
) -> None:
    """Have the gateway keep the right label of a text, or of each row of a file, for the next build.

    It takes them where `newsdesk serve --feedback FOLDER` runs. Columns `predicted` and `note` of a file are sent, too.

    Exit code: 0 all kept, 1 some rows refused, 2 wrong usage, refused or no gateway.
    """
    refused: list[str] = []
    try:
        if (text is None) == (file is None) or bool(label) != (file is None):
            raise ValueError("expected a text and its --label, or --file")
        server = ServerOptions(timeout=timeout, model=model, api_key=api_key, **certificates(tls_ca, tls_cert, tls_key))
        with Client(url, **server) as client:
            if file is None:
                assert text is not None
                corrections = [Correction(as_sent(text), label, predicted or None, note or None)]
            else:
                how = ReaderOptions(form=input_form, columns=text_column or [], delimiter=delimiter)
                corrections = [*_of_file(file, how, label_column, client.labels(), refused)]
            kept = client.feedback(corrections)
    except (NewsdeskError, RowsError, OSError, ValueError) as error:
        typer.echo(f"newsdesk: {error}", err=True)
        raise typer.Exit(2) from error
    for why in refused[:_SHOWN]:
        typer.echo(f"newsdesk: {why}", err=True)
    summary = f"{kept} corrections are kept" if kept != 1 else "1 correction is kept"
    summary += f"; {len(refused)} rows are refused" if refused else ""
    typer.echo(json.dumps({"kept": kept, "refused": len(refused)}) if as_json else summary)
    if refused:
        raise typer.Exit(1)


def _of_file(
    file: Path, how: ReaderOptions, label_column: str, labels: Sequence[str], refused: list[str]
) -> Iterator[Correction]:
    """Yield the corrections of a file's rows; why a row is none is added to `refused`."""
    with opened(file, how) as reader:
        for row, text in reader.records():
            if isinstance(text, RowRefusal):
                refused.append(text.reason)
                continue
            label = _cell(row, label_column)
            if label and label not in labels:
                refused.append(
                    f"{f'line {row.line}' if row.line else f'row {row.number}'}: {label!r:.80} is no label of the "
                    f"model: {', '.join(labels):.400}"
                )
            elif label:
                yield Correction(text, label, _cell(row, "predicted") or None, _cell(row, "note") or None)


def _cell(row: FileRow, column: str) -> str:
    value = row.cells.get(column)
    return "" if value is None else (value.decode(errors="replace") if isinstance(value, bytes) else str(value)).strip()

"""Options that several commands have, each declared once."""

from typing import Annotated

import typer

from newsdesk.clients.rows import Form

InputForm = Annotated[
    Form | None, typer.Option("--input-format", help="What FILE is (default: by its name; - is txt).")
]
TextColumns = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Column of the text (default: text); several are joined by a space."),
]
Delimiter = Annotated[
    str, typer.Option(metavar="CHARACTER", help="What parts a CSV's cells (default: it is recognised).")
]
Url = Annotated[
    str,
    typer.Option(
        envvar="NEWSDESK_URL", help="The server: grpc://…, http://… or gateway+http://host:port[,host:port…]."
    ),
]
ApiKey = Annotated[str | None, typer.Option(envvar="NEWSDESK_API_KEY", help="Key or bearer token for the gateway.")]
Model = Annotated[str, typer.Option(envvar="NEWSDESK_MODEL", help="Which model, where the server has several.")]
Timeout = Annotated[float, typer.Option(min=0.001, metavar="SECONDS", help="Longest wait for a request.")]

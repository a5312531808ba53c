"""Options that several commands have, each declared once, and their values as `Client` takes them."""

from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer

from newsdesk.clients.rows import Form

GATEWAY_URL = "gateway+http://127.0.0.1:8080"
"""The gateway of this machine."""

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
GatewayUrl = Annotated[str, typer.Option(envvar="NEWSDESK_URL", help="The gateway: gateway+http://host:port.")]
ApiKey = Annotated[str | None, typer.Option(envvar="NEWSDESK_API_KEY", help="Key or bearer token for the gateway.")]
Model = Annotated[str, typer.Option(envvar="NEWSDESK_MODEL", help="Which model, where the server has several.")]
Timeout = Annotated[float, typer.Option(min=0.001, metavar="SECONDS", help="Longest wait for a request.")]
Uncertainty = Annotated[bool, typer.Option("--uncertainty", help="How uncertain an answer is, too.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]


def _file(flag: str, variable: str, says: str) -> Any:
    return typer.Option(flag, envvar=variable, metavar="FILE", exists=True, dir_okay=False, help=says)


TlsCa = Annotated[Path | None, _file("--tls-ca", "NEWSDESK_TLS_CA", "Authorities (PEM) to trust, not the system's.")]
TlsCert = Annotated[
    Path | None, _file("--tls-cert", "NEWSDESK_CLIENT_CERT", "The caller's certificate, where the server wants one.")
]
TlsKey = Annotated[Path | None, _file("--tls-key", "NEWSDESK_CLIENT_KEY", "Its key.")]
"""NEWSDESK_TLS_CERT and NEWSDESK_TLS_KEY are the gateway's own: a machine that serves and asks has both."""


class CertificatePaths(TypedDict):
    """Paths of certificates, as `Client` and `parse` name them; "" for none."""

    ca_file: str
    cert_file: str
    key_file: str


class ServerOptions(CertificatePaths):
    """The arguments of `Client` that say how the server is reached."""

    timeout: float
    """In seconds."""
    model: str
    api_key: str | None


def certificates(tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None) -> CertificatePaths:
    """Return the paths that the options name."""
    return CertificatePaths(ca_file=str(tls_ca or ""), cert_file=str(tls_cert or ""), key_file=str(tls_key or ""))


class ReaderOptions(TypedDict, total=False):
    """The arguments of `Reader` that say how a file is read."""

    form: Form | None
    columns: list[str]
    delimiter: str

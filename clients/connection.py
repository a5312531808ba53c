"""Options of the commands that ask a server, each declared once: its certificates and the caller's own."""

from pathlib import Path
from typing import Annotated, Any

import typer


def _file(flag: str, variable: str, says: str) -> Any:
    return typer.Option(flag, envvar=variable, metavar="FILE", exists=True, dir_okay=False, help=says)


TlsCa = Annotated[Path | None, _file("--tls-ca", "NEWSDESK_TLS_CA", "Authorities (PEM) to trust, not the system's.")]
TlsCert = Annotated[
    Path | None, _file("--tls-cert", "NEWSDESK_CLIENT_CERT", "The caller's certificate, where the server wants one.")
]
TlsKey = Annotated[Path | None, _file("--tls-key", "NEWSDESK_CLIENT_KEY", "Its key.")]
"""NEWSDESK_TLS_CERT and NEWSDESK_TLS_KEY are the gateway's own: a machine that serves and asks has both."""


def files(tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None) -> dict[str, str]:
    """Return the files by the names that `Client` and `parse` have for them, "" for none."""
    by_name = {"ca_file": tls_ca, "cert_file": tls_cert, "key_file": tls_key}
    return {name: str(file or "") for name, file in by_name.items()}

"""The command, as it is installed and within this process."""

import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from newsdesk.clients.cli.app import app

NEWSDESK = Path(sys.executable).with_name("newsdesk")


def run(*arguments: str, standard_input: bytes = b"", **environment: str) -> Any:
    """Run the command within this process."""
    return CliRunner(env={"COLUMNS": "80", "TERM": "dumb", **environment}).invoke(
        app, list(arguments), input=standard_input
    )

"""The `export` command."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Target(StrEnum):
    """The devices that archives are for."""

    jetson = "jetson"


def export(
    target: Annotated[Target, typer.Option(help="What the archive is for.")],
    model_repository: Annotated[Path, typer.Option(help="Folder with one model in it.")] = Path("model_repository"),
    artifacts: Annotated[
        Path | None,
        typer.Option(
            help="Where the build left its stages: the fp16 graph is taken from there.", show_default="artifacts"
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder to write the archive to.")] = Path("artifacts/export"),
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Write one archive that takes a model to a Jetson: graphs, tokenizers, golden answers, and what serves them."""
    try:
        from newsdesk.build.errors import BuildError
        from newsdesk.build.package.jetson import archive
        from newsdesk.server.runtime.errors import ServerError
    except ImportError as error:
        _fail(f"newsdesk export needs a package that is missing ({error}): pip install 'newsdesk[build]'")
    models = sorted(config.parent for config in model_repository.glob("*/config.pbtxt"))
    if len(models) != 1:
        named = ", ".join(model.name for model in models) or "none"
        _fail(f"{model_repository} holds the models {named}, expected one. Name another with --model-repository.")
    try:
        made = archive.pack(models[0], artifacts, output, lambda line: print(f"newsdesk: {line}", file=sys.stderr))
    except (BuildError, ServerError, OSError) as error:
        _fail(str(error))
    size = made.stat().st_size
    print(json.dumps({"archive": str(made), "bytes": size}) if as_json else f"{made} ({size / 2**20:.1f} MiB)")


def _fail(message: str) -> None:
    print(f"newsdesk: {message}", file=sys.stderr)
    raise typer.Exit(1)

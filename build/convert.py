"""The `convert` command. Heavy imports wait until it runs."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from newsdesk.build.commands import AsJson, Output, refusals


def convert(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A built model's folder.")] = Path(
        "model_repository/ag_news"
    ),
    variant: Annotated[
        list[str] | None,
        typer.Option("--variant", help="fp32, fp16 or int8-fp16; may be given more than once. Default: the last two."),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            help="Build engines of the variants, too. tensorrt builds for the GPU at hand, tensorrt_rtx ahead of time.",
        ),
    ] = None,
    capability: Annotated[
        list[str] | None,
        typer.Option(
            "--compute-capability", help="A GPU that tensorrt_rtx builds for, such as 9.0. Default: 8.9, 12.0."
        ),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="Your own texts, one a line: buckets of lengths are placed by them."
        ),
    ] = None,
    output: Output = Path("gpu_repository"),
    as_json: AsJson = False,
) -> None:
    """Give a built model what a GPU reads: graphs in half precision, and engines, made from its int8 graphs.

    newsdesk convert model_repository/ag_news --engine tensorrt, and then newsdesk serve --model-repository
    gpu_repository
    """
    with refusals():
        from newsdesk.build import progress
        from newsdesk.build.compile import convert as conversion
        from newsdesk.build.compile.engine import INSTALL
        from newsdesk.build.errors import BuildError
        from newsdesk.build.recipe import Engines

        variants, runtimes = variant or ["fp16", "int8-fp16"], engine or []
        for option, names, known in (
            ("--variant", variants, conversion.VARIANTS),
            ("--engine", runtimes, tuple(INSTALL)),
        ):
            if unknown := sorted({*names} - {*known}):
                raise BuildError(f"{option} {unknown[0]}: expected one of {', '.join(known)}")
        wanted = {"runtimes": runtimes, "variants": [name for name in variants if name != "fp32"]}
        if capability:
            wanted["compute_capabilities"] = capability
        settings = msgspec.convert(wanted, Engines)
        lines = texts.read_text(encoding="utf-8", errors="replace").splitlines() if texts else []
        with contextlib.redirect_stdout(sys.stderr):
            figures = conversion.convert(
                model, output, variants, settings, [line for line in lines if line.strip()], progress.say
            )
    if as_json:
        print(json.dumps(msgspec.to_builtins(figures), indent=1))
        return
    print(f"{output / model.name} is written; newsdesk serve --model-repository {output} serves it on a GPU")

"""The `build` command. Heavy imports wait until it runs, so that the command line starts fast without the extra."""

import contextlib
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def build(
    recipe: Annotated[
        str, typer.Option(help="A recipe of newsdesk's (compact), or the path of a .toml file.")
    ] = "compact",
    stage: Annotated[
        str,
        typer.Option(
            help="Stop after: read, clean, split, train, export, quantise, compile, verify, evaluate or repository. "
            "What is unchanged since the last build is not run again."
        ),
    ] = "repository",
    data: Annotated[
        Path | None,
        typer.Option(help="Your own training rows instead of the recipe's: .csv, .jsonl or .parquet, plain or .gz."),
    ] = None,
    test_data: Annotated[Path | None, typer.Option(help="Your own test rows, with the same columns; optional.")] = None,
    text_column: Annotated[
        list[str] | None, typer.Option(help="Column of the text; given more than once, they are joined. Default: text.")
    ] = None,
    label_column: Annotated[str, typer.Option(help="Column of the label.")] = "label",
    columns: Annotated[
        str, typer.Option(help="Names of the columns, with commas between, of a CSV file without a header line.")
    ] = "",
    first_label: Annotated[
        int | None,
        typer.Option(help="The labels are numbers that count the recipe's labels, from this one (AG News's CSV: 1)."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change the recipe, e.g. members.0.train.epochs=2; JSON values."
        ),
    ] = None,
    artifacts: Annotated[Path, typer.Option(help="Where the stages keep what they made.")] = Path("artifacts"),
    output: Annotated[Path, typer.Option(help="The model repository to write to.")] = Path("model_repository"),
    as_json: Annotated[bool, typer.Option("--json", help="Print every stage's figures as JSON.")] = False,
) -> None:
    """Build a model: read rows, clean, split, train, export, quantise, compile, verify, evaluate, write the repository.

    The official CSV of AG News: --data train.csv --test-data test.csv --columns label,title,description
    --text-column title --text-column description --first-label 1
    """
    try:
        from newsdesk.build import pipeline, progress
        from newsdesk.build import recipe as recipes
        from newsdesk.build.data import own
        from newsdesk.build.errors import BuildError
        from newsdesk.server.ensemble.errors import ServerError
    except ImportError as error:
        _fail(f"newsdesk build needs a package that is missing ({error}): pip install 'newsdesk[build]'")
    try:
        wanted = dict(_assignment(text) for text in set_ or [])
        changes: dict[str, Any] = {}
        if data:
            changes = own.changes(
                recipes.load(recipe),
                data,
                test_data,
                text_columns=text_column or ["text"],
                label_column=label_column,
                columns=[name for name in columns.split(",") if name],
                first_label=first_label,
            )
        elif test_data or text_column or columns or first_label is not None:
            raise BuildError(
                "--test-data, --text-column, --columns and --first-label describe --data, which is missing"
            )
        chosen = recipes.load(recipe, changes | wanted)
        # The libraries print as they please; stdout is for the figures.
        with contextlib.redirect_stdout(sys.stderr):
            figures = pipeline.build(
                chosen, artifacts, output, last=stage, command=_command(recipe, changes | wanted), say=progress.say
            )
    except ImportError as error:
        _fail(f"newsdesk build needs a package that is missing ({error}): pip install 'newsdesk[build]'")
    except (BuildError, ServerError) as error:
        _fail(str(error))
    print(json.dumps(figures, indent=1) if as_json else _summary(figures))


def _assignment(text: str) -> tuple[str, Any]:
    from newsdesk.build.errors import RecipeError

    key, equals, value = text.partition("=")
    if not key or not equals:
        raise RecipeError(f"--set {text!r}: expected KEY=VALUE, for example members.0.train.epochs=2")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _command(recipe: str, changes: dict[str, Any]) -> str:
    """Return the command that repeats this build, without this machine's folders."""
    from newsdesk.build.repository import portable

    words = ["newsdesk", "build", "--recipe", portable(recipe)]
    for key, value in portable(changes).items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return shlex.join(words)


def _summary(figures: dict[str, Any]) -> str:
    lines = [
        f"{part}: {found['rows']:,} rows, float {found['float']['accuracy']:.2%}, "
        f"{figures['evaluate']['target']} {found['served']['accuracy']:.2%}, same label {found['agreement']:.2%}"
        for part, found in figures.get("evaluate", {}).get("accuracy", {}).items()
    ]
    if "repository" in figures:
        lines.append(f"{figures['repository']['path']} is written; newsdesk serve serves it")
    return "\n".join(lines)


def _fail(message: str) -> None:
    print(f"newsdesk: {message}", file=sys.stderr)
    raise typer.Exit(1)

"""The `build` and `evaluate` commands. Heavy imports wait until they run: the command line starts fast without them."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from newsdesk.build.recipe import Recipe


RecipeName = Annotated[str, typer.Option("--recipe", help="A recipe of newsdesk's (compact), or a .toml file's path.")]
BuiltRecipe = Annotated[
    str,
    typer.Option(
        "--recipe",
        help="A recipe of newsdesk's, or a .toml file's path. Default: own with --data, compact without.",
    ),
]
DataFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="FILE[:WEIGHT]",
        help="Your own training rows instead of the recipe's: .csv, .tsv, .jsonl or .parquet, plain or .gz. May be "
        "given more than once; rows of b.csv:0.5 count half.",
    ),
]
TestFile = Annotated[
    Path | None, typer.Option("--test-data", help="Your own test rows, with the same columns; optional.")
]
TextColumns = Annotated[
    list[str] | None,
    typer.Option("--text-column", help="Column of the text; given more than once, they are joined. Default: text."),
]
LabelColumn = Annotated[str, typer.Option("--label-column", help="Column of the label.")]
Columns = Annotated[
    str,
    typer.Option("--columns", help="Names of the columns, with commas between, of a CSV file without a header line."),
]
SoftColumns = Annotated[
    str,
    typer.Option(
        "--soft-columns",
        metavar="LABEL=COLUMN,…",
        help="Columns with a probability of each label, from a language model or annotators, instead of one label: "
        "World=p_world,Sports=p_sports, or what their names begin with (label:). The likeliest label counts in splits "
        "and reports.",
    ),
]
FirstLabel = Annotated[
    int | None,
    typer.Option(
        "--first-label",
        help="The labels are numbers that count the recipe's labels, from this one (AG News's CSV: 1); else they are "
        "names.",
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change the recipe, e.g. members.minilm.max_length=64; JSON values."
    ),
]
_QUICK = "quantise.variants=[]", "repository.variants=[]", "compile.rows=16", "compile.rounds=1"
Output = Annotated[Path, typer.Option(help="The model repository to write to.")]
NextVersion = Annotated[
    bool, typer.Option("--next-version", help="Leave the version that is there, and write the one after it.")
]
Artifacts = Annotated[Path, typer.Option("--artifacts", help="Where the stages keep what they made.")]
Layout = Literal["ensemble", "members"]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")]


@dataclass(frozen=True)
class RowsOptions:
    """The options that put files in the place of the recipe's rows; empty or None where they are not said."""

    data: list[str] | None
    test_data: Path | None
    text_column: list[str] | None
    label_column: str
    columns: str
    first_label: int | None
    soft_columns: str = ""


def build(
    recipe: BuiltRecipe = "",
    stage: Annotated[
        str,
        typer.Option(
            help="Run this stage and what it needs: read, clean, split, pretrain, teach, train, cross-fit, export, "
            "quantise, engines, compile, verify, evaluate, ensemble, judge or repository. What is unchanged since the "
            "last build is not run again."
        ),
    ] = "repository",
    data: DataFiles = None,
    test_data: TestFile = None,
    text_column: TextColumns = None,
    label_column: LabelColumn = "label",
    columns: Columns = "",
    first_label: FirstLabel = None,
    soft_columns: SoftColumns = "",
    changes: Changes = None,
    artifacts: Artifacts = Path("artifacts"),
    output: Output = Path("model_repository"),
    next_version: NextVersion = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Fit members again where the code of training was edited; without it a fit is kept while its settings "
            "and rows are the same.",
        ),
    ] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Serve in fp32: quantise nothing, and measure targets on a few rows. A build without it goes on from "
            "the same fits.",
        ),
    ] = False,
    layout: Annotated[
        Layout,
        typer.Option(
            help="ensemble: one model that answers texts. members: beside it each encoder as a plain model of Triton's "
            "own backends, tokens in and logits out."
        ),
    ] = "ensemble",
    as_json: AsJson = False,
) -> None:
    """Build a model: read rows, clean, split, fit every member, compile, verify, combine, write the repository.

    The official CSV of AG News: --data train.csv --test-data test.csv --columns label,title,description
    --text-column title --text-column description --first-label 1
    """
    with refusals():
        from newsdesk.build import progress
        from newsdesk.build.package import layout as layouts
        from newsdesk.build.pipeline import building

        recipe = recipe or ("own" if data else "compact")
        rows = RowsOptions(data, test_data, text_column, label_column, columns, first_label, soft_columns)
        chosen, command = _chosen("build", recipe, [*(_QUICK if quick else ()), *(changes or [])], rows)
        # The libraries print as they please; stdout is for the figures.
        with contextlib.redirect_stdout(sys.stderr):
            figures = building.build(
                chosen,
                artifacts,
                output,
                last=stage,
                command=command,
                next_version=next_version,
                strict=strict,
                say=progress.say,
            )
            if layout == "members" and "repository" in figures:
                for written in layouts.write(output / chosen.repository.model, output):
                    progress.say(f"repository: {written}")
    print(json.dumps(figures, indent=1) if as_json else _summary(figures))


def evaluate(
    recipe: RecipeName = "compact",
    data: DataFiles = None,
    test_data: TestFile = None,
    text_column: TextColumns = None,
    label_column: LabelColumn = "label",
    columns: Columns = "",
    first_label: FirstLabel = None,
    changes: Changes = None,
    artifacts: Artifacts = Path("artifacts"),
    model_repository: Annotated[Path, typer.Option(help="The model repository to examine.")] = Path("model_repository"),
    output: Annotated[Path, typer.Option(help="The folder to write the report to.")] = Path("report"),
    target: Annotated[
        str,
        typer.Option(help="Compile targets to examine, as `newsdesk serve` takes them.", show_default="its own"),
    ] = "",
    against: Annotated[
        Path | None,
        typer.Option(help="An older model to compare with on the same rows: its repository, or the model's folder."),
    ] = None,
    quote: Annotated[
        bool,
        typer.Option(
            "--quote/--no-quote", help="Whether the report holds texts: of the worst errors, of changed labels."
        ),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Report on a built model: accuracy, calibration, cost, robustness and errors on the recipe's test rows.

    Writes report.md, report.json and plots. Rows of another source with the same labels are examined too where the
    recipe names one: --set data.outside.elsewhere='{"file": "bbc.csv", "label_column": "section"}'
    """
    with refusals():
        import msgspec

        from newsdesk.build import progress, reporting
        from newsdesk.build.evaluation import against as comparing
        from newsdesk.build.evaluation import report

        rows = RowsOptions(data, test_data, text_column, label_column, columns, first_label)
        chosen, _ = _chosen("evaluate", recipe, changes or [], rows)
        with contextlib.redirect_stdout(sys.stderr):
            figures = reporting.examine(
                chosen, artifacts, model_repository, target=target, against=against, say=progress.say
            )
            if not quote:
                figures = report.without_texts(figures)
            path = report.write(figures, output)
    if as_json:
        print(json.dumps(msgspec.to_builtins(figures), indent=1))
    else:
        print("\n".join(f"{quality}: {point.accuracy:.2%}" for quality, point in figures.test.points.items()))
        if figures.against:
            print("\n".join(["Against the old model:", *comparing.summary(figures.against)]))
        print(f"{path} is written")


def combine(
    members: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL:MEMBER,MEMBER…",
            help="A built model's folder, and members of its latest version; without a colon, all of them.",
        ),
    ],
    recipe: RecipeName = "compact",
    changes: Changes = None,
    artifacts: Artifacts = Path("artifacts"),
    output: Output = Path("model_repository"),
    next_version: NextVersion = False,
    as_json: AsJson = False,
) -> None:
    """Combine members of built models: what is fitted on validation rows is fitted anew, and no member is trained.

    For other slices, another epsilon, or one new member beside the old ones. No member may have been fitted on the
    recipe's validation rows.
    """
    with refusals():
        from newsdesk.build import progress, recombine
        from newsdesk.build.pipeline import building

        chosen, command = _chosen("combine", recipe, changes or [])
        with contextlib.redirect_stdout(sys.stderr):
            figures = recombine.recombine(
                chosen,
                building.data(chosen, artifacts, progress.say),
                [member for text in members for member in recombine.named(text)],
                output,
                command=f"{command} MODEL:MEMBER,…",
                next_version=next_version,
                say=progress.say,
            )
    print(json.dumps(figures, indent=1) if as_json else _summary(figures))


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Make a message of what a build refuses and of a package that is missing."""
    try:
        from newsdesk.build.errors import BuildError, DataError, RecipeError
        from newsdesk.server.runtime.errors import ServerError
    except ImportError as error:
        _fail(f"this needs a package that is missing ({error}): pip install 'newsdesk[build]'")
    try:
        yield
    except ImportError as error:
        _fail(f"this needs a package that is missing ({error}): pip install 'newsdesk[build]'")
    except (DataError, RecipeError) as error:
        _fail(str(error), 2)
    except (BuildError, ServerError) as error:
        _fail(str(error))


def _chosen(name: str, recipe: str, changes: list[str], rows: RowsOptions | None = None) -> tuple[Recipe, str]:
    """Return the recipe that the options ask for, and the command that repeats this one."""
    from newsdesk.build import recipe as recipes

    wanted = dict(assignment(text) for text in changes)
    changed = (_of_files(recipes.load(recipe), rows) if rows else {}) | wanted
    return recipes.load(recipe, changed), _command(name, recipe, changed)


def _of_files(recipe: Recipe, rows: RowsOptions) -> dict[str, Any]:
    """Return the changes that put the files in the place of the recipe's rows; none without files."""
    from newsdesk.build.data import own
    from newsdesk.build.errors import RecipeError

    if rows.data:
        files = [own.weighed(text) for text in rows.data]
        return own.changes(
            recipe,
            files[0][0],
            rows.test_data,
            text_columns=rows.text_column or ["text"],
            label_column=rows.label_column,
            columns=[name for name in rows.columns.split(",") if name],
            first_label=rows.first_label,
            more=[file for file, _ in files[1:]],
            weights=[weight for _, weight in files],
            soft=rows.soft_columns,
        )
    if rows.test_data or rows.text_column or rows.columns or rows.soft_columns or rows.first_label is not None:
        described = "--test-data, --text-column, --columns, --soft-columns and --first-label"
        raise RecipeError(f"{described} describe --data, which is missing")
    return {}


def assignment(text: str) -> tuple[str, Any]:
    """Return the dotted key and the value of KEY=VALUE; what is no JSON is a string.

    Raises:
        RecipeError: the text is none.
    """
    from newsdesk.build.errors import RecipeError

    key, equals, value = text.partition("=")
    if not key or not equals:
        raise RecipeError(f"--set {text!r}: expected KEY=VALUE, for example members.minilm.train.epochs=2")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _command(name: str, recipe: str, changes: dict[str, Any]) -> str:
    """Return the command that repeats this one, without this machine's folders."""
    from newsdesk.build.package.repository import portable

    return shlex.join(["newsdesk", name, "--recipe", portable(recipe), *assignments(changes)])


def assignments(changes: dict[str, Any]) -> list[str]:
    """Return `--set KEY=VALUE …`, for `assignment` to read, without this machine's folders."""
    from newsdesk.build.package.repository import portable

    words = []
    for key, value in portable(changes).items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return words


def _summary(figures: dict[str, Any]) -> str:
    import msgspec

    from newsdesk.build.ensemble.figures import Judgement
    from newsdesk.server.contract import QUALITIES

    judged = msgspec.convert(figures.get("judge", {}), dict[str, Judgement])
    lines = [
        f"{part}: {of.rows:,} rows, " + ", ".join(f"{name} {of.at(name).accuracy:.2%}" for name in QUALITIES)
        for part, of in judged.items()
    ]
    if "repository" in figures:
        lines.append(f"{figures['repository']['path']} is written; newsdesk serve serves it")
    return "\n".join(lines)


def _fail(message: str, code: int = 1) -> None:
    print(f"newsdesk: {message}", file=sys.stderr)
    raise typer.Exit(code)

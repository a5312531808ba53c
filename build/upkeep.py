"""The commands on finished models: `builds` and `reference`. Heavy imports wait until they run."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from newsdesk.build.commands import Artifacts, AsJson, Changes, RecipeName, assignment, refusals


def builds(
    artifacts: Artifacts = Path("artifacts"),
    model_repository: Annotated[
        list[Path] | None,
        typer.Option(
            help="A model repository whose versions are listed; may be given more than once.",
            show_default="model_repository",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what was built, the newest first: date, recipe, rows, members, accuracy, calibration error, size and target.

    Versions of model repositories, and builds in the artifact store that none of them holds. Broken ones are named.
    """
    with refusals():
        from newsdesk.build import builds as listing

        listed = listing.find(model_repository or [Path("model_repository")], artifacts)
    print(listing.to_json(listed) if as_json else listing.render(listed) or "nothing was built here")


def reference(
    recipe: RecipeName = "compact",
    changes: Changes = None,
    artifacts: Artifacts = Path("artifacts"),
    model_repository: Annotated[Path, typer.Option(help="The model repository.")] = Path("model_repository"),
    target: Annotated[
        str,
        typer.Option(help="Compile targets to ask, as `newsdesk serve` takes them.", show_default="its own"),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Give a finished model the reference that live answers are held against (drift); nothing is fitted.

    The model is asked about its recipe's validation rows. Builds write a reference by themselves.
    """
    with refusals():
        from newsdesk.build import progress
        from newsdesk.build import recipe as recipes
        from newsdesk.build import reference as references
        from newsdesk.server.runtime import manifest

        chosen = recipes.load(recipe, dict(assignment(text) for text in changes or []))
        with contextlib.redirect_stdout(sys.stderr):
            version = references.add(chosen, artifacts, model_repository, target=target, say=progress.say)
    if as_json:
        print(json.dumps(msgspec.to_builtins(manifest.load(version).reference)))
    else:
        print(f"{version / 'manifest.json'} has a reference; load the model anew where it is served")

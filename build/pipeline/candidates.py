"""The members of a recipe that can be fitted, and those of them that were chosen to serve."""

import msgspec
from msgspec.structs import replace

from newsdesk.build.errors import RecipeError
from newsdesk.build.members import bases
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.recipe import EncoderMember, Member, Recipe

CHOSEN = "members.json"


def possible(recipe: Recipe, rows: int, say: Say) -> Recipe:
    """Return the recipe with the members that so many rows are enough for, and whose base can be had.

    Args:
        recipe: with all candidates
        rows: of training
        say: is told which are left out, and why

    Raises:
        RecipeError: none is left.
    """
    kept: list[Member] = []
    missing: set[str] = set()
    for member in recipe.members:
        if member.least_rows > rows:
            say(f"{member.name}: left out, {rows:,} rows are fewer than the {member.least_rows:,} that it wants")
        elif isinstance(member, EncoderMember) and member.optional and member.base in missing:
            continue
        elif isinstance(member, EncoderMember) and member.optional and (reason := _missing(member)):
            missing.add(member.base)
            say(f"{member.name}: left out, there is no encoder: {reason}")
        else:
            kept.append(member)
    if not kept:
        raise RecipeError(f'recipe {recipe.name}: no member is left for {rows:,} rows; add one of kind = "linear"')
    return replace(recipe, members=kept)


def chosen(selected: Artifact) -> list[str]:
    """Return the names of the members that serve, from the artifact of `select`."""
    return msgspec.json.decode((selected / CHOSEN).read_bytes(), type=list[str])


def _missing(member: EncoderMember) -> str:
    """Return why a member's base cannot be had; empty where it can."""
    try:
        bases.check(member.base, member.name)
    except RecipeError as error:
        return str(error)
    return ""

"""Folders of this machine in the place of the model hub: data sets and base models, each named once.

NEWSDESK_DATA   a folder with the files that a recipe's `data.local` names
NEWSDESK_BASES  a folder with base models, each a `from_pretrained` folder called as on the hub, without the owner
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from newsdesk.build.errors import RecipeError
from newsdesk.build.recipe.members import EncoderMember, Member
from newsdesk.build.recipe.sources import Data, Source

if TYPE_CHECKING:
    from newsdesk.build.recipe.recipe import Recipe

DATA, BASES = "NEWSDESK_DATA", "NEWSDESK_BASES"


def resolved(recipe: Recipe, changed: set[str]) -> Recipe:
    """Return the recipe with the folders' files in the place of what the hub would give.

    Args:
        recipe: as its file has it
        changed: the recipe's keys that were set by hand, which stay

    Raises:
        RecipeError: a folder is named and is not there.
    """
    if folder := _folder(DATA):
        recipe = _with_data(recipe, folder, changed)
    if folder := _folder(BASES):
        recipe = replace(recipe, members=[_with_base(member, folder) for member in recipe.members])
        if recipe.teaching:
            teachers = [_with_base(member, folder) for member in recipe.teaching.teachers]
            recipe = replace(recipe, teaching=replace(recipe.teaching, teachers=teachers))
    return recipe


def _folder(variable: str) -> Path | None:
    name = os.environ.get(variable)
    if not name:
        return None
    if not Path(name).is_dir():
        raise RecipeError(f"{variable} is {name!r}, which is no folder here; name one, or unset it")
    return Path(name)


def _with_data(recipe: Recipe, folder: Path, changed: set[str]) -> Recipe:
    local = recipe.data.local
    if local is None or any(key.startswith("data.train") for key in changed):
        return recipe
    parts: dict[str, object] = {"train": _below(local.train, folder), "local": None}
    if local.test and not any(key.startswith("data.test") for key in changed):
        parts["test"] = _below(local.test, folder)
    for name in ("outside", "strangers"):
        of_folder = {key: _below(source, folder) for key, source in getattr(local, name).items()}
        parts[name] = of_folder | getattr(recipe.data, name)
    data: Data = replace(recipe.data, **parts)
    if any(key.startswith("split.validation_where") for key in changed):
        return replace(recipe, data=data)
    return replace(recipe, data=data, split=replace(recipe.split, validation_where=local.validation_where))


def _below(source: Source, folder: Path) -> Source:
    return replace(source, file=str(folder / source.file))


def _with_base(member: Member, folder: Path) -> Member:
    if not isinstance(member, EncoderMember) or Path(member.base).is_dir():
        return member
    base = folder / member.base.rpartition("/")[2]
    return replace(member, base=str(base)) if base.is_dir() else member

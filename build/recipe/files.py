"""Recipes as TOML files: read, changed by dotted keys, and checked."""

import re
from pathlib import Path
from typing import Any, get_args

import msgspec

from newsdesk.build.errors import RecipeError
from newsdesk.build.recipe import local, trees
from newsdesk.build.recipe.members import DEFAULT_KIND, Member
from newsdesk.build.recipe.recipe import Recipe

RECIPES = Path(__file__).parents[1] / "recipes"


def load(name_or_path: str, changes: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe of ours by name, or any by path.

    Files of the folders that NEWSDESK_DATA and NEWSDESK_BASES name stand in for the hub (see `local.resolved`).

    A file that says `extends = "compact"` is read on top of that recipe: tables are merged, lists are continued.

    Args:
        name_or_path: a name, or a path that ends in .toml
        changes: dotted keys ("members.minilm.base") to values

    Raises:
        RecipeError: there is no such recipe, or something in it is wrong; the message says where.
    """
    path = _path(name_or_path)
    tree = _read(path)
    for key, value in (changes or {}).items():
        try:
            trees.change(tree, key.split("."), value)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise RecipeError(f"recipe {path.name}: nothing stands at {key!r}, so it cannot be set") from error
    try:
        return local.resolved(convert(tree), set(changes or {}))
    except msgspec.ValidationError as error:
        raise RecipeError(f"recipe {path.name}: {error}{_fields_of_kind(tree, str(error))}") from error


def convert(tree: dict[str, Any]) -> Recipe:
    """Return the recipe of a plain tree, as a TOML file is read into.

    Raises:
        msgspec.ValidationError: the tree is no recipe.
    """
    teaching = tree.get("teaching")
    members = _members(tree) + _members(teaching, "teachers")
    for member in members:
        member.setdefault("kind", DEFAULT_KIND)
    return msgspec.convert(tree, Recipe)


def _members(tree: Any, key: str = "members") -> list[dict[str, Any]]:
    """Return the tables of a list of members; what is no table is left to the check of types."""
    members = tree.get(key) if isinstance(tree, dict) else None
    return [member for member in members if isinstance(member, dict)] if isinstance(members, list) else []


def _fields_of_kind(tree: dict[str, Any], error: str) -> str:
    """Return advice for an error about a member's own field: which fields a member of its kind has."""
    place = re.search(r"\$\.(teaching\.teachers|members)\[(\d+)\]`$", error)
    if not place or "field" not in error:
        return ""
    members = tree["members"] if place[1] == "members" else tree["teaching"]["teachers"]
    member = members[int(place[2])]
    for kind in get_args(Member):
        if kind.kind == member["kind"]:
            fields = ", ".join(field.encode_name for field in msgspec.structs.fields(kind))
            return (
                f"; member {member.get('name')} is of kind {kind.kind!r}, which has {fields}. Fill it in, or set `kind`"
            )
    return ""


def _path(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise RecipeError(f"no recipe {name_or_path!r}: give the path of a .toml file, or one of: {known}")
    return path


def _read(path: Path) -> dict[str, Any]:
    import tomllib  # novm: Python 3.11's. A device with 3.10 takes its engines' settings from here, and reads no recipe

    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {path.name}: {error}") from error
    below = tree.pop("extends", "")
    return trees.merged(_read(_path(below)), tree) if below else tree

"""A user's own files in the place of a recipe's sources."""

from pathlib import Path
from typing import Any

import msgspec

from newsdesk.build.data import sources
from newsdesk.build.data.cleaning import NAMES_ONLY
from newsdesk.build.recipe import EncoderMember, Recipe, Source


def changes(
    recipe: Recipe,
    train: Path,
    test: Path | None = None,
    *,
    text_columns: list[str],
    label_column: str,
    columns: list[str],
    first_label: int | None = None,
) -> dict[str, Any]:
    """Return the changes (see `recipe.load`) that make the recipe read these files.

    The recipe's labels stay where the files' labels are just these names, or where `first_label` says that they are
    numbers counting them; otherwise the labels are taken from the rows, and a number is a name. What the recipe says of
    its own data goes, and so do `pretrain` and `teaching`, which take a GPU: members are fitted as their bases are, and
    teach each other. So do slices and views: rows of one's own need not be articles with a headline.
    """
    described = {
        "text_columns": text_columns,
        "label_column": label_column,
        "columns": columns,
        "first_label": NAMES_ONLY if first_label is None else first_label,
    }
    of_train = {"file": str(train), **described}
    keep = first_label is not None
    if not keep:
        rows = sources.read(msgspec.convert(of_train, Source))
        keep = {row.label.strip() for row in rows} - {""} == set(recipe.labels)
    return {
        "data.train": of_train,
        "data.test": {"file": str(test), **described} if test else None,
        "labels": recipe.labels if keep else [],
        "split.validation_where": {},
        "split.slices": {},
        **{f"members.{member.name}.{member.fitting}.views": {} for member in recipe.members if member.views},
        "teaching": None,
        **{
            f"members.{member.name}.pretrain": None
            for member in recipe.members
            if isinstance(member, EncoderMember) and member.pretrain
        },
        "card": {},
    }

"""Plain trees, as TOML files are read into: one on top of another, and changes at dotted keys."""

from typing import Any


def merged(below: Any, above: Any) -> Any:
    """Return `above` on top of `below`: tables are merged, lists are continued, anything else is taken from `above`."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merged(below[key], value) if key in below else value for key, value in above.items()}
    return below + above if isinstance(below, list) and isinstance(above, list) else above


def change(tree: Any, keys: list[str], value: Any) -> None:
    """Set a value in place. A key finds a list's item by its name or number, and makes a table that is not there.

    Raises:
        AttributeError, IndexError, TypeError, ValueError: nothing stands at a key.
    """
    for key in keys[:-1]:
        tree = tree[_place(tree, key)] if isinstance(tree, list) else tree.setdefault(key, {})
    tree[_place(tree, keys[-1]) if isinstance(tree, list) else keys[-1]] = value


def _place(items: list[Any], key: str) -> int:
    """Return where an item of a list stands: by its name, or by its number, from 0."""
    names = [item.get("name") for item in items if isinstance(item, dict)]
    return names.index(key) if key in names else int(key)

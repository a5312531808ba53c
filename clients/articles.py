"""Read what a caller gives: a text, an article of title and description, or what holds many of either, row by row.

Tables and columns of pandas, polars and Arrow are known by how they behave: none of them need be installed.
"""

from collections.abc import Iterable, Mapping
from typing import Any

Text = str | bytes
Article = Mapping[str, str]
"""{"title": …, "description": …}, or {"text": …}."""

_EXPECTED = "str, or bytes in UTF-8, or a mapping of title and description"
_WHOLE, _PARTS = {"text"}, {"title", "description"}
_TABLE = (
    "a table: give one column (frame['text']), or its rows as mappings of title and description (pandas: "
    "frame.to_dict('records'), polars: frame.to_dicts(), Arrow: table.to_pylist())"
)


def read_single(text: Any) -> Text | None:
    """Return the text to send for a text or an article, None for what may hold many.

    Raises:
        TypeError: a mapping is no article.
    """
    text = _plain(text)
    if isinstance(text, str | bytes):
        return text
    return _join(text, "the text") if isinstance(text, Mapping) else None


def read_row(row: Any, index: int) -> Text:
    """Return the text to send for one row, the `index`-th.

    Raises:
        TypeError: it is neither a text nor an article.
    """
    row = _plain(row)
    if isinstance(row, str | bytes):
        return row
    if isinstance(row, Mapping):
        return _join(row, f"text {index}")
    missing = " (a missing value?)" if row is None or type(row).__name__ in ("float", "NAType", "NaTType") else ""
    raise TypeError(f"text {index} is of type {type(row).__name__}{missing}, expected {_EXPECTED}")


def read_rows(texts: Any) -> Iterable[Any]:
    """Return what gives the rows in their order.

    Raises:
        TypeError: `texts` gives something else, as a table does, or no order.
    """
    single = read_single(texts)
    if single is not None:
        return [single]
    kind = type(texts).__name__
    if hasattr(texts, "columns"):  # it would give the names of its columns
        raise TypeError(f"the texts are of type {kind}, {_TABLE}")
    if isinstance(texts, set | frozenset):
        raise TypeError(f"the texts are of type {kind}, which has no order for the answers: give a list")
    if isinstance(texts, bytearray | memoryview):
        raise TypeError(f"the text is of type {kind}: give bytes({kind}), in UTF-8")
    try:
        rows: Iterable[Any] = iter(texts)
        return rows
    except TypeError:
        raise TypeError(f"the text is of type {kind}, expected {_EXPECTED}, or an iterable of those") from None


def _plain(value: Any) -> Any:
    """Return an Arrow scalar's value, and a row of a pandas table that is an article as a mapping."""
    if isinstance(value, str | bytes):
        return value
    if hasattr(value, "as_py"):
        return value.as_py()
    if hasattr(value, "keys") and hasattr(value, "iloc") and 0 < len(value) <= len(_PARTS):
        names = set(value.keys())
        if names <= _PARTS or names <= _WHOLE:
            return dict(value.items())
    return value


def _join(article: Mapping[Any, Any], name: str) -> str:
    """Return an article as one text, as the gateway does: the title, a space, the description."""
    keys = set(article)
    if keys != _WHOLE and not {"title"} <= keys <= _PARTS:
        names = ", ".join(sorted(map(str, keys))) or "no keys"
        raise TypeError(f"{name} is a mapping of {names}, expected title and description, or text, and nothing else")
    for key, value in article.items():
        if not isinstance(value, str):
            raise TypeError(f"{name}: {key} is of type {type(value).__name__}, expected str")
    return article["text"] if keys == _WHOLE else f"{article['title']} {article.get('description', '')}"

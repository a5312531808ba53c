"""Objects that stand for texts: read row by row, or refused by name; never keys, column names or letters."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from newsdesk.clients import AsyncClient, Client, Prediction
from newsdesk.clients.articles import read_row, read_rows, read_single

ARTICLES = [
    {"title": "The match is over", "description": "Both teams were tired."},
    {"title": "A calm day", "description": "The shares of the airline fell."},
    {"text": "A chip that doubles the memory"},
]
TEXTS = [
    "The match is over Both teams were tired.",
    "A calm day The shares of the airline fell.",
    "A chip that doubles the memory",
]
LABELS = ["Sports", "Business", "Sci/Tech"]


class Series:
    """A column as polars has it: its values by iteration."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Frame:
    """A table as polars has it: its columns by iteration."""

    columns = ("title", "description")

    def __iter__(self) -> Iterator[Series]:
        return iter([Series(["a"]), Series(["b"])])


def arrow_column() -> Any:
    return pytest.importorskip("pyarrow").array(TEXTS)


def arrow_chunks() -> Any:
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.chunked_array([TEXTS[:1], TEXTS[1:]])


def arrow_dictionary() -> Any:
    return pytest.importorskip("pyarrow").array(TEXTS).dictionary_encode()


def arrow_rows() -> Any:
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.array([{"text": text} for text in TEXTS])


def pandas_column() -> Any:
    return pytest.importorskip("pandas").Series(TEXTS, index=["x", "y", "z"])


def pandas_categories() -> Any:
    return pytest.importorskip("pandas").Series(TEXTS, dtype="category")


def numpy_column() -> Any:
    return pytest.importorskip("numpy").array(TEXTS)


@pytest.mark.parametrize(
    "made",
    [
        lambda: TEXTS,
        lambda: ARTICLES,
        lambda: (article for article in ARTICLES),
        lambda: Series(TEXTS),
        lambda: Series(ARTICLES),
        lambda: dict.fromkeys(TEXTS).keys(),
        arrow_column, arrow_chunks, arrow_dictionary, arrow_rows, pandas_column, pandas_categories, numpy_column,
    ],
)  # fmt: skip
def test_rows_are_read_one_by_one(made: Callable[[], Any]) -> None:
    assert read_single(made()) is None
    assert [read_row(row, index) for index, row in enumerate(read_rows(made()))] == TEXTS


@pytest.mark.parametrize("article", [*ARTICLES, *TEXTS, "ß".encode(), {"title": "Only a title"}])
def test_one_article_is_one_text(article: Any) -> None:
    text = read_single(article)
    assert text in (*TEXTS, "ß".encode(), "Only a title ")  # as the gateway joins it
    assert list(read_rows(article)) == [text]


def test_one_row_of_a_table_is_one_article() -> None:
    pandas = pytest.importorskip("pandas")
    assert read_single(pandas.DataFrame(ARTICLES[:2]).iloc[0]) == TEXTS[0]
    assert read_single(pytest.importorskip("pyarrow").array(TEXTS)[1]) == TEXTS[1]


def pandas_table() -> Any:
    return pytest.importorskip("pandas").DataFrame(ARTICLES)


def arrow_table() -> Any:
    return pytest.importorskip("pyarrow").table({"title": ["a"], "description": ["b"]})


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (Frame, r"the texts are of type Frame, a table: give one column \(frame\['text'\]\), or its rows"),
        (pandas_table, "of type DataFrame, a table"),
        (arrow_table, "of type Table, a table"),
        (lambda: set(TEXTS), "of type set, which has no order for the answers: give a list"),
        (lambda: frozenset(TEXTS), "of type frozenset, which has no order"),
        (lambda: bytearray(b"match"), r"of type bytearray: give bytes\(bytearray\), in UTF-8"),
        (lambda: memoryview(b"match"), "of type memoryview"),
        (lambda: 7, "the text is of type int, expected str, or bytes in UTF-8, or a mapping of title and description"),
        (lambda: 0.5, "the text is of type float, expected str"),
        (lambda: None, "the text is of type NoneType, expected str"),
        (lambda: {}, "the text is a mapping of no keys, expected title and description, or text"),
        (lambda: {"title": "a", "body": "b"}, "the text is a mapping of body, title, expected title and description"),
        (lambda: {"description": "b"}, "the text is a mapping of description, expected title"),
        (lambda: {"text": "a", "title": "b"}, "a mapping of text, title, expected"),
        (lambda: {"title": "a", "description": None}, "the text: description is of type NoneType, expected str"),
        (lambda: ["match", None], r"text 1 is of type NoneType \(a missing value\?\), expected str"),
        (lambda: ["match", float("nan")], r"text 1 is of type float \(a missing value\?\)"),
        (lambda: ["match", ["shares"]], "text 1 is of type list, expected str"),
        (lambda: ["match", {"title": "a", "label": "b"}], "text 1 is a mapping of label, title, expected"),
        (lambda: ["match", {"title": "a", "description": 3}], "text 1: description is of type int, expected str"),
    ],
)
def test_anything_else_is_a_type_error_everywhere(gateway: str, made: Callable[[], Any], says: str) -> None:
    async def classify() -> None:
        async with AsyncClient(gateway) as client:
            await client.classify(made())

    async def stream() -> None:
        async with AsyncClient(gateway) as client:
            async for _ in client.stream(made()):
                pass

    with Client(gateway) as client:
        for ask in (lambda: client.classify(made()), lambda: list(client.stream(made()))):
            with pytest.raises(TypeError, match=says):
                ask()
    for call in classify, stream:
        with pytest.raises(TypeError, match=says):
            asyncio.run(call())


@pytest.mark.parametrize("micro_batching", [False, True])
def test_articles_and_columns_are_answered_by_every_client(any_url: str, micro_batching: bool) -> None:
    def label(answer: Any) -> str:
        assert isinstance(answer, Prediction)
        return answer.label

    async def ask() -> None:
        async with AsyncClient(any_url, micro_batching=micro_batching) as client:
            assert [label(await client.classify(article)) for article in ARTICLES] == LABELS
            assert [label(item) for item in await client.classify(arrow_column())] == LABELS
            assert [label(item) async for item in client.stream(ARTICLES)] == LABELS
            assert [label(item) async for item in client.stream(ARTICLES[0])] == LABELS[:1]

    with Client(any_url, micro_batching=micro_batching) as client:
        assert [label(client.classify(article)) for article in ARTICLES] == LABELS
        for made in (lambda: ARTICLES, lambda: Series(ARTICLES), arrow_chunks, pandas_column):
            assert [label(item) for item in client.classify(made())] == LABELS
            assert [label(item) for item in client.stream(made())] == LABELS
        assert [label(item) for item in client.stream(TEXTS[1])] == LABELS[1:2]  # not its letters
    asyncio.run(ask())

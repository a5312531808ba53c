"""Sources: CSV with and without a header, JSONL, Parquet, plain and .gz, the hub; bytes that are no UTF-8."""

import gzip
import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from newsdesk.build import recipe
from newsdesk.build.data import own, sources
from newsdesk.build.errors import DataError
from newsdesk.build.recipe import Source

ROWS = [
    {"title": "Ferry sails", "description": 'The tide was high, "very" high', "label": "harbour"},
    {"title": "Soup", "description": "", "label": "kitchen"},
]
ARTICLES = ['Ferry sails The tide was high, "very" high', "Soup"]
COLUMNS = {"text_columns": ("title", "description")}


def write(path: Path, data: str | bytes) -> str:
    raw = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)
    return str(path)


def quoted(cells: list[str]) -> str:
    return ",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in cells)


CSV = "\n".join([",".join(ROWS[0]), *(quoted([*row.values()]) for row in ROWS)])
JSONL = "\n".join(json.dumps(row) for row in ROWS) + "\n\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [("r.csv", CSV), ("r.csv.gz", CSV), ("r.CSV", "\ufeff" + CSV), ("r.jsonl", JSONL), ("r.ndjson.gz", JSONL)],
)
def test_text_files(name: str, data: str, tmp_path: Path):
    rows = [*sources.read(Source(file=write(tmp_path / name, data), **COLUMNS))]
    assert [row.text for row in rows] == ARTICLES
    assert [row.label for row in rows] == ["harbour", "kitchen"]
    assert [row.number for row in rows] == [1, 2]


def test_parquet(tmp_path: Path):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "r.parquet")
    assert [row.text for row in sources.read(Source(file=str(tmp_path / "r.parquet"), **COLUMNS))] == ARTICLES


def test_the_hub_through_datasets(monkeypatch):
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        return datasets.Dataset.from_list([{"text": "Ferry sails", "label": 2}, {"text": "Soup", "label": 0}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    rows = [*sources.read(Source(hub="someone/rows", split="train"))]
    assert asked == [("someone/rows", "train")]
    assert [(row.text, row.label) for row in rows] == [("Ferry sails", "2"), ("Soup", "0")]


def test_no_hub_says_how_to_give_files(monkeypatch):
    def load_dataset(name, split):
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"'someone/rows', split 'train'.*offline.*newsdesk build --data"):
        [*sources.read(Source(hub="someone/rows", split="train"))]


def test_the_official_csv_has_no_header(tmp_path: Path):
    official = "\n".join(quoted(["3", row["title"], row["description"]]) for row in ROWS)
    source = Source(
        file=write(tmp_path / "train.csv", official),
        columns=["label", "title", "description"],
        first_label=1,
        **COLUMNS,
    )
    rows = [*sources.read(source)]
    assert [row.text for row in rows] == ARTICLES
    assert {row.label for row in rows} == {"3"}


def test_bytes_that_are_no_utf8_reach_the_report_as_surrogates(tmp_path: Path):
    raw = b"text,label\nfine,a\nbroken \xff\xfe here,b\n"
    rows = [*sources.read(Source(file=write(tmp_path / "r.csv", raw)))]
    assert [row.text for row in rows] == ["fine", "broken \udcff\udcfe here"]


def test_keep_and_a_whole_text_column(tmp_path: Path):
    data = "kind,text,title,label\nfull,,Title,a\nconcat,Whole text,Title,a\ncut|full,,Other,b\ncut,,No,b\n"
    source = Source(
        file=write(tmp_path / "r.csv", data),
        text_columns=("title",),
        whole_text_column="text",
        keep={"kind": ["full", "concat"]},
    )
    assert [row.text for row in sources.read(source)] == ["Title", "Whole text", "Other"]
    assert [row.number for row in sources.read(source)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("r.csv", "headline,label\na,b\n", r"no column 'text'; it has 'headline', 'label'.*--text-column"),
        (
            "r.csv",
            "text,label\na,b,c\n",
            "1 row cannot be read; mend or remove them:\n  line 2: 3 cells",
        ),
        ("r.csv", 'text,label\n"a,b\nc,d\n', "line 2: the quote that opens in line 2 closes nowhere"),
        ("r.csv", "text^label\na^b\n", "say what parts its cells with a first line such as `sep=;`"),
        ("r.csv", "text,text,label\na,b,c\n", "column text stands 2 times"),
        ("r.jsonl", '{"text": "a"\n', "line 1: not JSON"),
        ("r.jsonl", "[1]\n", "line 1: holds a list, expected an object"),
        ("r.jsonl", '"a"\n', "line 1: holds a str, expected an object"),
        ("r.jsonl", "[" * 10_000, "line 1: nested too deeply"),
        ("r.jsonl", '{"text": ' + "9" * 5000 + "}", "line 1: holds a number of more digits"),
        ("r.txt", "a\n", "a column is named, expected .csv"),
        ("r.xlsx", "", r"a .xlsx file is given, expected .csv"),
        ("r.csv", b"PK\x03\x04 xl/workbook.xml", "this is an Excel workbook"),
        ("r.csv", gzip.compress(b"text,label\n" * 99, mtime=0)[:40], "the gzip file is cut short"),
        ("r.parquet", b"PAR1" + bytes(40), "not a Parquet file that can be read"),
    ],
    ids=lambda parameter: parameter[:40] if isinstance(parameter, str) else "_",
)
def test_what_cannot_be_read_says_so(name: str, data: str | bytes, message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message):
        [*sources.read(Source(file=write(tmp_path / name, data)))]


def test_rows_that_cannot_be_read_are_counted_and_the_first_are_named(tmp_path: Path):
    """A missing quote made 20 rows of 180, and the build went on."""
    rows = "".join(f'"headline {i}{chr(34) if i % 9 else ""},{"ab"[i % 2]}\n' for i in range(180))
    with pytest.raises(DataError) as refused:
        [*sources.read(Source(file=write(tmp_path / "r.csv", "text,label\n" + rows)))]
    lines = str(refused.value).splitlines()
    assert lines[0].endswith("r.csv: 20 rows cannot be read; mend or remove them:")
    assert [line.split(":")[0].strip() for line in lines[1:6]] == [f"line {2 + 9 * i}" for i in range(5)]
    assert lines[6:] == ["  and 15 more"]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_dialects(delimiter: str, tmp_path: Path):
    cells = [*ROWS[0]], [*ROWS[1].values()]
    data = "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in cells)
    (row,) = sources.read(Source(file=write(tmp_path / "r.csv", data), **COLUMNS))
    assert (row.text, row.label) == ("Soup", "kitchen")
    data = f"3{delimiter}Ferry{delimiter}The tide\n"
    described = {"columns": ["label", "title", "description"], **COLUMNS}
    (row,) = sources.read(Source(file=write(tmp_path / "r.csv", data), **described))
    assert (row.text, row.label) == ("Ferry The tide", "3")


def test_no_such_file():
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file"):
        [*sources.read(Source(file="nowhere.csv"))]


@pytest.mark.parametrize(
    ("labels", "first_label", "kept"),
    [
        (["harbour", "kitchen", "garden"], None, False),
        (["Sci/Tech", "World", "Business", "Sports"], None, True),
        (["World", "Sports"], None, False),
        (["0", "1", "2"], None, False),
        (["1", "2", "3", "4"], 1, True),
    ],
)
def test_own_rows_keep_the_recipes_labels_only_where_they_match(labels, first_label, kept, tmp_path: Path):
    """Numbers of somebody else's labels must not pass for AG News's."""
    compact = recipe.load("compact")
    data = "text,label\n" + "".join(f"text {i},{label}\n" for i, label in enumerate(labels))
    columns = {"text_columns": ["text"], "label_column": "label", "columns": [], "first_label": first_label}
    changes = own.changes(compact, Path(write(tmp_path / "r.csv", data)), **columns)
    changed = recipe.load("compact", changes)
    assert changed.labels == (compact.labels if kept else [])
    assert changed.data.test is None
    assert changed.data.train.first_label == (-1 if first_label is None else first_label)
    assert changed.card.terms == ""
    # What takes a GPU is left out.
    assert changed.teaching is None
    assert not any(member.pretrain for member in changed.members if isinstance(member, recipe.EncoderMember))
    # So is what articles with a headline have.
    assert compact.split.slices
    assert changed.split.slices == {}
    assert not any(member.views for member in changed.members)

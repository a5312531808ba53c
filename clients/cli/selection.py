"""`newsdesk select`: the rows of a file that are most worth a label, as a CSV to write labels into."""

import csv
import heapq
import json
import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from newsdesk.clients import acquisition
from newsdesk.clients.acquisition import Strategy
from newsdesk.clients.articles import Text
from newsdesk.clients.cli.options import (
    ApiKey,
    Delimiter,
    InputForm,
    Model,
    ReaderOptions,
    ServerOptions,
    TextColumns,
    Timeout,
    TlsCa,
    TlsCert,
    TlsKey,
    Url,
    certificates,
)
from newsdesk.clients.cli.texts import FIRST_RETRIES, AnswersInOrder, opened, shown_progress
from newsdesk.clients.client import DEFAULT_URL, Client
from newsdesk.clients.errors import NewsdeskError, TextRefused
from newsdesk.clients.options import AnswerOptions
from newsdesk.clients.rows import FileRow, RowRefusal, RowsError
from newsdesk.server.contract import Quality

SCORE, REASON = "select_score", "select_reason"
"""The columns of the output that say how useful a row is, and why."""
_TEXT = "text"
_POOL = 5000
"""Rows that are compared with each other at most: of more, those of the highest scores, or as many drawn by chance."""
_CENTRES = 20_000
"""Labelled texts that are compared with the rows, the last ones."""


class CandidateRow(NamedTuple):
    """A row that may be chosen. Candidates are compared by score, and of equal ones the first row wins."""

    score: float
    place: int
    row: FileRow
    text: str
    reason: str


@dataclass
class CandidatePool:
    """The rows of a file that have no label yet, each text once, as they are read."""

    records: Iterable[tuple[FileRow, str | bytes | RowRefusal]]
    label_column: str
    labelled: "Labelled"
    read: int = 0
    refused: int = 0
    passed_over: int = 0
    rows: deque[FileRow] = field(default_factory=deque)
    """Those whose texts were given on, in their order."""

    def texts(self) -> Iterator[Text | RowRefusal]:
        """Yield the texts that have no label yet, each once, and note their rows."""
        for row, text in self.records:
            self.read += 1
            if not isinstance(text, RowRefusal):
                new, filled = self.labelled.new(text), _filled(row, self.label_column)
                if new and filled:
                    self.labelled.texts.append(_readable(text))
                if filled or not new:
                    self.passed_over += 1
                    continue
            self.rows.append(row)
            yield text


@dataclass
class Labelled:
    """Texts that need no label (again): those of other files, and those that were met."""

    keys: set[bytes] = field(default_factory=set)
    texts: deque[str] = field(default_factory=lambda: deque(maxlen=_CENTRES))

    def new(self, text: Text) -> bool:
        """Note a text, and return whether it is another than all before."""
        digest = blake2b(acquisition.key(_readable(text)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = digest in self.keys
        self.keys.add(digest)
        return not known


def select(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .csv, .jsonl, .parquet or .txt, or .gz; - is stdin.")],
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="How many to choose.")] = 200,
    by: Annotated[Strategy, typer.Option(help="What makes a row worth a label.")] = Strategy.mixed,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The CSV to write.")] = Path(
        "chosen.csv"
    ),
    without: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Rows that are labelled, or chosen, already; may be repeated."),
    ] = None,
    label_column: Annotated[
        str, typer.Option(metavar="NAME", help="Column for the labels; rows that have one are left out.")
    ] = "label",
    text_column: TextColumns = None,
    input_form: InputForm = None,
    delimiter: Delimiter = "",
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    model: Model = "",
    quality: Annotated[
        Quality | None, typer.Option(help="As of classify (default: best by disagreement, else balanced).")
    ] = None,
    timeout: Timeout = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Write a summary as JSON.")] = False,
) -> None:
    """Choose the rows of a file that are most worth a label, and write them as a CSV to fill in.

    mixed: texts that stand for many others that the model is unsure of. uncertainty: those that it is least sure of.
    disagreement: those that its members differ about. diversity: those that stand for many others; it asks no server.

    Exit code: 0 done, 1 some texts refused, 2 wrong usage or no server.
    """
    try:
        _check(by, file, output, label_column)
        how = ReaderOptions(columns=text_column or [], delimiter=delimiter)
        labelled = _labelled(without or [], how)
        with ExitStack() as stack:
            reader = stack.enter_context(opened(file, ReaderOptions(**how, form=input_form)))
            records = stack.enter_context(shown_progress(reader, reader.records()))
            pool = CandidatePool(records, label_column, labelled)
            if by.scored:
                server = ServerOptions(
                    timeout=timeout, model=model, api_key=api_key, **certificates(tls_ca, tls_cert, tls_key)
                )
                with Client(url, retries=FIRST_RETRIES, **server) as first:
                    first.labels()
                client = stack.enter_context(Client(url, **server))
                candidates = _scored(client, pool, by, rows, quality)
            else:
                candidates = _drawn(pool, max(rows, _POOL))
        chosen = _chosen(by, candidates, rows, labelled)
        _write(output, chosen, label_column)
    except (NewsdeskError, RowsError, OSError, ValueError) as error:
        typer.echo(f"newsdesk: {error}", err=True)
        raise typer.Exit(2) from error
    summary = {"read": pool.read, "left_out": pool.passed_over, "refused": pool.refused, "chosen": len(chosen)}
    typer.echo(json.dumps({**summary, "output": str(output)}) if as_json else _in_words(summary, output, label_column))
    if pool.refused:
        raise typer.Exit(1)


def _check(by: Strategy, file: Path, output: Path, label_column: str) -> None:
    if label_column in (SCORE, REASON):
        raise ValueError(f"--label-column is {label_column!r}, which `select` writes itself: expected another name")
    if output.exists() and str(file) != "-" and output.samefile(file):
        raise ValueError(f"--output is {str(output)!r}, the file that is read: expected another")
    if by.compares:
        try:
            import sklearn  # noqa: F401 - whoever lacks it is told before the server is asked
        except ModuleNotFoundError:
            raise ValueError(
                f"--by {by} needs scikit-learn, which is not installed: pip install 'newsdesk[select]'. "
                "--by uncertainty and --by disagreement need none"
            ) from None


def _labelled(paths: Sequence[Path], how: ReaderOptions) -> Labelled:
    """Return the texts of files. A row that cannot be read is passed over: nothing can be chosen twice by it."""
    labelled = Labelled()
    for path in paths:
        with opened(path, how) as reader:
            for text in reader.texts():
                if not isinstance(text, RowRefusal) and labelled.new(text):
                    labelled.texts.append(_readable(text))
    return labelled


def _scored(
    client: Client, pool: CandidatePool, by: Strategy, rows: int, quality: Quality | None
) -> list[CandidateRow]:
    """Ask the server about all texts, and return the rows of the highest scores, as many as may be chosen among."""
    of_members = by is Strategy.disagreement
    options = AnswerOptions(quality=quality or ("best" if of_members else None), members=of_members)
    most = max(rows, _POOL) if by.compares else rows
    kept: list[CandidateRow] = []
    answered = alone = 0
    for place, (item, text) in enumerate(AnswersInOrder(client, pool.texts(), options)):
        row = pool.rows.popleft()
        if isinstance(item, TextRefused):
            pool.refused += 1
            continue
        score = acquisition.disagreement(item) if of_members else acquisition.uncertainty(item)
        answered += 1
        alone += score is None
        candidate = CandidateRow(score or 0.0, -place, row, _readable(text), acquisition.reason(by, item))
        if len(kept) < most:
            heapq.heappush(kept, candidate)
        elif candidate[:2] > kept[0][:2]:
            heapq.heapreplace(kept, candidate)
    if answered and alone == answered:
        raise ValueError("--by disagreement: no text was answered by two members or more; expected --by uncertainty")
    return sorted(kept, key=lambda candidate: candidate[:2], reverse=True)


def _drawn(pool: CandidatePool, most: int) -> list[CandidateRow]:
    """Return the rows, in their order; of more than `most`, as many drawn evenly."""
    chance = random.Random(0)
    kept: list[CandidateRow] = []
    texts = 0
    for text in pool.texts():
        row = pool.rows.popleft()
        if isinstance(text, RowRefusal) or not _legible(text):
            pool.refused += 1
            continue
        texts += 1
        candidate = CandidateRow(0.0, -texts, row, _readable(text), "")
        if len(kept) < most:
            kept.append(candidate)
        elif (place := chance.randrange(texts)) < most:
            kept[place] = candidate
    return sorted(kept, key=lambda candidate: candidate.place, reverse=True)


def _chosen(by: Strategy, candidates: list[CandidateRow], rows: int, labelled: Labelled) -> list[CandidateRow]:
    texts, scores = [candidate.text for candidate in candidates], [candidate.score for candidate in candidates]
    chosen = []
    for choice in acquisition.choose(by, texts, scores, rows, [*labelled.texts]):
        candidate = candidates[choice.place]
        why = "; ".join(filter(None, (candidate.reason, choice.reason)))
        chosen.append(candidate._replace(score=choice.score, reason=why))
    return chosen


def _write(output: Path, chosen: Sequence[CandidateRow], label_column: str) -> None:
    """Write the rows as they were, with an empty label, the score and the reason. Bytes that are no UTF-8 stay."""
    cells = [_cells(candidate) for candidate in chosen]
    names = [name for name in dict.fromkeys(name for row in cells for name in row) if name not in (SCORE, REASON)]
    names += [name for name in (label_column, SCORE, REASON) if name not in names]
    with output.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = csv.DictWriter(file, names, restval="", lineterminator="\n", extrasaction="ignore")
        table.writeheader()
        for candidate, row in zip(chosen, cells, strict=True):
            table.writerow({**row, label_column: "", SCORE: f"{candidate.score:.4f}", REASON: candidate.reason})


def _cells(candidate: CandidateRow) -> dict[str, str]:
    if candidate.row.text is not None:
        return {_TEXT: candidate.text}
    return {name: _written(value) for name, value in candidate.row.cells.items()}


def _written(value: object) -> str:
    if isinstance(value, str | bytes):
        return _readable(value)
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list | bool) else str(value)


def _readable(text: Text) -> str:
    return text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text


def _legible(text: Text) -> bool:
    """Return whether a model would read a text: it is UTF-8, and something is to be seen."""
    try:
        return bool((text if isinstance(text, bytes) else text.encode()).decode().strip())
    except UnicodeError:
        return False


def _filled(row: FileRow, column: str) -> bool:
    return _written(row.cells.get(column)).strip() != ""


def _in_words(summary: Mapping[str, int], output: Path, label_column: str) -> str:
    left_out, refused = summary["left_out"], summary["refused"]
    parts = [f"{summary['chosen']:,} of {summary['read']:,} rows are in {output}"]
    parts += [f"left out, being labelled or the same text: {left_out:,}"] if left_out else []
    parts += [f"refused: {refused:,}"] if refused else []
    return f"{'; '.join(parts)}. Fill in the column {label_column}, and give it to `newsdesk build --data`."

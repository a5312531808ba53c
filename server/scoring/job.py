"""A job: the files of a folder, or one file, scored chunk by chunk, and written once each."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from newsdesk.clients.rows import Form, RowRefusal, RowsError
from newsdesk.server.runtime import manifest
from newsdesk.server.scoring import chunks, forms
from newsdesk.server.scoring.answers import ScoringModel, Text
from newsdesk.server.scoring.chunks import Reading, RowChunk
from newsdesk.server.scoring.errors import ScoreError
from newsdesk.server.scoring.forms import Style
from newsdesk.server.scoring.journal import Journal, Progress
from newsdesk.server.scoring.places import FileSystem, place_of
from newsdesk.server.scoring.work import Texts, Workers

_SAY_SECONDS = 10.0


@dataclass(frozen=True)
class ScoringJob:
    """The files that are scored, and how.

    Attributes:
        source: a file, or a folder of them; a path or a URL
        out: the file that is written, or the folder of files of the same names
        overwrite: whether what is there of `out` counts for nothing
    """

    source: str
    out: str
    model: ScoringModel
    reading: Reading = field(default_factory=Reading)
    prefix: str = ""
    uncertainty: bool = False
    overwrite: bool = False


@dataclass
class Outcome:
    """How a job went: rows of the whole output, those of them without an answer, and files that could not be read."""

    rows: int = 0
    refused: int = 0
    files: int = 0
    failed: list[str] = field(default_factory=list)
    scored: int = 0
    """Rows that this run itself has scored."""
    seconds: float = 0.0


@dataclass(eq=False)
class _File:
    name: str
    path: str
    out: str
    form: Form
    progress: Progress
    count: int | None = None
    """Its chunks, once it is read to the end."""
    failed: bool = False

    @property
    def complete(self) -> bool:
        return self.count is not None and len(self.progress.parts) == self.count


def run(job: ScoringJob, workers: Workers, say: Callable[[str], None]) -> Outcome:
    """Score the files that are not scored yet, and return how it went.

    Args:
        job: what is scored
        workers: answer its texts
        say: is told of files that fail, and how far it is

    Raises:
        ScoreError: the files cannot be scored so, or nobody can go on.
        ServerError: the model cannot run here.
        OSError: the output cannot be written.
    """
    (source, inside), (place, out) = place_of(job.source), place_of(job.out)
    if type(source) is type(place) and f"{out}/".startswith(f"{inside}/"):
        raise ScoreError(f"{job.out} lies in {job.source}, which is read: write elsewhere")
    listed = _listed(job, source, inside)
    journal = Journal(place, out)
    there = place.exists(out) and ("" in listed or bool(place.names(out)))
    if there and not job.overwrite and not journal.begun:
        raise ScoreError(f"{job.out} is there already, and no job that writes it: name another, or add --overwrite")
    with place.lock(journal.folder):
        if job.overwrite:
            journal.clear()
        journal.begin(_about(job, inside))
        journal.load()
        files = [
            _File(
                name,
                f"{inside}/{name}" if name else inside,
                f"{out}/{_plain(name)}" if name else out,
                form,
                journal.read(name, stamp),
            )
            for name, (stamp, form) in listed.items()
        ]
        outcome = _Run(job, source, place, journal, say).score(files, workers)
        if not outcome.failed:
            journal.remove()
    return outcome


class _Run:
    def __init__(
        self, job: ScoringJob, source: FileSystem, place: FileSystem, journal: Journal, say: Callable[[str], None]
    ) -> None:
        loaded = manifest.load(job.model.folder)
        self._style = Style(loaded.labels, [level.name for level in loaded.cascade], job.prefix, job.uncertainty)
        self._job, self._source, self._place, self._journal, self._say = job, source, place, journal, say
        self._read: list[_File] = []
        self._outcome = Outcome()

    def score(self, files: list[_File], workers: Workers) -> Outcome:
        outcome, began = self._outcome, time.monotonic()
        due = began + _SAY_SECONDS
        for (file, chunk), answers in workers.answers(self._questions(files)):
            try:
                self._keep(file, chunk, answers)
            except RowsError as error:
                self._fail(file, error)
                continue
            self._join()
            if time.monotonic() >= due:
                due = time.monotonic() + _SAY_SECONDS
                self._say(f"{outcome.scored:,} rows scored, {outcome.scored / (time.monotonic() - began):,.0f}/s")
        self._join()
        for file in files:
            if file.progress.whole:
                outcome.files += 1
                outcome.rows += file.progress.whole[0]
                outcome.refused += file.progress.whole[1]
        outcome.seconds = time.monotonic() - began
        return outcome

    def _questions(self, files: list[_File]) -> Iterator[tuple[tuple[_File, RowChunk], Texts]]:
        for file in files:
            if file.progress.whole:
                continue
            count = 0
            try:
                with self._source.open(file.path) as opened:
                    for chunk in chunks.chunks(opened, file.name or file.path, file.form, self._job.reading):
                        if file.failed:
                            break
                        count += 1
                        if chunk.number not in file.progress.parts:
                            yield (file, chunk), [_sent(text) for text in chunk.texts]
                if not file.failed:
                    file.count = count
                    self._read.append(file)
            except (RowsError, OSError) as error:
                self._fail(file, error)

    def _keep(self, file: _File, chunk: RowChunk, answers: Any) -> None:
        part = forms.part(file.form, file.out, chunk, answers, self._style)
        refused = len(forms.merged(chunk, answers))
        self._journal.keep(file.progress, chunk.number, part, len(chunk.texts), refused)
        self._outcome.scored += len(chunk.texts)

    def _fail(self, file: _File, error: Exception) -> None:
        file.failed = True
        reason = str(error) if file.path in str(error) or file.name in str(error) else f"{file.path}: {error}"
        if reason not in self._outcome.failed:
            self._outcome.failed.append(reason)
            self._say(reason)

    def _join(self) -> None:
        """Write the files all of whose chunks are done."""
        for file in [file for file in self._read if file.complete]:
            self._read.remove(file)
            with ExitStack() as stack:
                written = stack.enter_context(self._place.create(file.out))
                paths = (self._journal.path(file.progress, number) for number in range(len(file.progress.parts)))
                forms.join(file.form, map(self._place.open, paths), written)
            self._journal.finish(file.progress)


def _sent(text: Text | RowRefusal) -> Text | None:
    return None if isinstance(text, RowRefusal) else text


def _listed(job: ScoringJob, source: FileSystem, inside: str) -> dict[str, tuple[str, Form]]:
    """Return the files to score, by their names in the folder, "" for a single file: their stamps and forms."""
    stamps = source.find(inside)
    if "" in stamps:
        form, out = job.reading.form or forms.form_of(inside), forms.form_of(job.out)
        if form is None or form is Form.txt or out is not form or job.out.lower().endswith(".gz"):
            raise ScoreError(
                f"{job.source} → {job.out}: expected a .parquet, .csv, .tsv, .jsonl or .ndjson file for each, of the "
                "same form; only the first may be .gz, and --input-format says what it is"
            )
        return {"": (stamps[""], form)}
    shown = {name: stamp for name, stamp in sorted(stamps.items()) if not _hidden(name)}
    listed = {name: (stamp, form) for name, stamp in shown.items() if (form := forms.form_of(name))}
    if not listed:
        raise ScoreError(f"{job.source}: no such file, nor a folder with .parquet, .csv, .tsv, .jsonl or .ndjson files")
    outs = [_plain(name) for name in listed]
    if twice := sorted({name for name in outs if outs.count(name) > 1}):
        raise ScoreError(f"{job.source}: {twice[0]} is there plain and as .gz, and both would be written as one file")
    return listed


def _hidden(name: str) -> bool:
    """As other programs have it, which keep notes beside their files: _SUCCESS, .crc."""
    return any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)


def _plain(name: str) -> str:
    return name[:-3] if name.lower().endswith(".gz") else name


def _about(job: ScoringJob, source: str) -> dict[str, Any]:
    """Return what changes the output of a job."""
    model = asdict(job.model)
    del model["folder"]
    return {
        "manifest": manifest.digest(job.model.folder / manifest.FILE),
        **model,
        "source": source,
        "columns": list(job.reading.columns),
        "delimiter": job.reading.delimiter,
        "form": job.reading.form,
        "prefix": job.prefix,
        "uncertainty": job.uncertainty,
        "rows of a chunk": chunks.ROWS,
    }

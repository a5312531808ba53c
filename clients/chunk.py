"""A chunk: the texts of one request, which of them are refused, and the answers to the others."""

import random
import re
from collections.abc import Iterable, Iterator, Sequence

from newsdesk.clients.articles import Article, Text, read_row
from newsdesk.clients.errors import BadResponse, Incomplete, NewsdeskError, RequestRefused, TextRefused
from newsdesk.clients.options import Options
from newsdesk.clients.prediction import Prediction
from newsdesk.clients.transports import ModelFacts, ServerAnswer

Item = Prediction | TextRefused

# Keeps a request far below what servers and proxies take, whatever the texts are.
_MOST_BYTES = 8 * 1024 * 1024
# `newsdesk refused 20 of 64 texts. text 3: empty, …; text 5: not UTF-8 (byte 12 is 0xff), send UTF-8; and 18 more`:
# those not listed are when the rest is sent.
_REFUSAL = re.compile(r"newsdesk refused \d+ of \d+ texts?\. (?P<listed>text \d+: .*?)(; and \d+ more)?\Z", re.DOTALL)
# White space behind a text, which the server does not read, that no request before had.
_MARK = 32
_NEXT_REFUSAL = re.compile(r"; (?=text \d+: )")


class Chunk:
    """Consecutive texts, from position `first` of what was given."""

    def __init__(self, first: int) -> None:
        self.items: list[Item | None] = []
        self._first = first
        self._waiting: list[tuple[int, bytes]] = []
        self._mark = b""

    def add(self, text: Text) -> int:
        """Take one more text and return its size in bytes. One that UTF-8 cannot carry is refused here."""
        place = len(self.items)
        try:
            encoded = text.encode() if isinstance(text, str) else text
        except UnicodeEncodeError as error:
            reason = f"not UTF-8 (character {error.start} is the lone surrogate {text[error.start]!a}), send UTF-8"
            self.items.append(TextRefused(self._first + place, reason))
            return 0
        self.items.append(None)
        self._waiting.append((place, encoded))
        return len(encoded)

    @property
    def waiting(self) -> list[bytes]:
        """The texts to send: neither answered nor refused."""
        return [text + self._mark for _, text in self._waiting]

    def accept(self, answers: Sequence[ServerAnswer | str], model: ModelFacts, options: Options) -> None:
        """Put the answers to the waiting texts, or why they are refused, at their places.

        Args:
            answers: to each waiting text, in their order
            model: that was asked
            options: of the call

        Raises:
            BadResponse: an answer names other labels.
        """
        for (place, _), answer in zip(self._waiting, answers, strict=True):
            index = self._first + place
            if isinstance(answer, str):
                self.items[place] = TextRefused(index, answer)
                continue
            label, row = answer.label, answer.probabilities
            if label not in model.labels or len(row) != len(model.labels):
                raise BadResponse(
                    f"the answer is {label!r} of {len(row)} labels, expected one of {', '.join(model.labels)}: the "
                    "server has changed its model. Call again, and the new labels are read."
                )
            self.items[place] = Prediction(
                index,
                label,
                _ranked(model, row, options.top_k),
                answer.answered_by,
                answer.windows,
                _by_name(model, answer.members),
                answer.unsure,
                None if answer.uncertainty is None else _three(answer.uncertainty),
                answer.version,
            )
        self._waiting = []

    def refuse(self, error: NewsdeskError) -> bool:
        """Take the texts that the server's message refuses out of the waiting ones. False if it refuses none."""
        match = _REFUSAL.search(str(error)) if isinstance(error, RequestRefused) else None
        if match is None:
            return False
        reasons: dict[int, str] = {}
        for refusal in _NEXT_REFUSAL.split(match["listed"]):
            text, _, reason = refusal.partition(": ")
            reasons[int(text.removeprefix("text "))] = reason
        for index, (place, _) in enumerate(self._waiting):
            if index in reasons:
                self.items[place] = TextRefused(self._first + place, reasons[index])
        before = len(self._waiting)
        self._waiting = [pair for index, pair in enumerate(self._waiting) if index not in reasons]
        return len(self._waiting) < before

    def pass_cache(self, error: NewsdeskError) -> bool:
        """Have the waiting texts sent once more, past the server's cache. False if that was not it.

        Triton's cache knows requests by their inputs alone, and keeps what it should not: an answer without the outputs
        that nobody had asked for, and a refusal without its words, as an answer without any.
        """
        if not isinstance(error, Incomplete) or self._mark:
            return False
        self._mark = "".join(random.choices(" \t", k=_MARK)).encode()
        return True

    def done(self) -> list[Item]:
        """The items in order, once nothing waits."""
        return [item for item in self.items if item is not None]


def _ranked(model: ModelFacts, row: Sequence[float], top_k: int | None) -> dict[str, float]:
    ranked = sorted(zip(model.labels, row, strict=True), key=lambda pair: pair[1], reverse=True)
    return dict(ranked[:top_k])


def _three(uncertainty: Sequence[float]) -> tuple[float, float, float]:
    total, data, model = uncertainty
    return total, data, model


def _by_name(model: ModelFacts, rows: Sequence[Sequence[float]] | None) -> dict[str, dict[str, float]] | None:
    """Name the members that were asked: the rows of the others hold -1."""
    if rows is None:
        return None
    named = zip(model.members, rows, strict=True)
    return {name: _ranked(model, row, None) for name, row in named if min(row) >= 0}


def cut(texts: Iterable[Text | Article], max_batch: int) -> Iterator[Chunk]:
    """Cut texts into chunks of at most `max_batch` texts and about 8 MiB, lazily.

    Raises:
        TypeError: something is not a text.
    """
    chunk, size = Chunk(0), 0
    for index, row in enumerate(texts):
        text = read_row(row, index)
        if chunk.items and (len(chunk.items) == max_batch or size + len(text) > _MOST_BYTES):
            yield chunk
            chunk, size = Chunk(index), 0
        size += chunk.add(text)
    if chunk.items:
        yield chunk

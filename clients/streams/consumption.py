"""The loop: read, classify, write the answer, and only then settle, each in the order in which messages came."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from newsdesk.clients.prediction import Prediction
from newsdesk.clients.streams.answering import Abandoned, Answering, RetryPauses
from newsdesk.clients.streams.brokers import BrokerAway, MessageSource, Sink
from newsdesk.clients.streams.messages import Message, MessageForm, StreamRecord, Unreadable
from newsdesk.clients.streams.report import Counts, Report, warn
from newsdesk.server.contract import DEFAULT_QUALITY, Quality

_BUSY_WAIT, _IDLE_WAIT, _HOLD_EVERY = 0.02, 0.5, 1.0
"""Seconds: for a message while answers are on their way, without any, and between signs of life to the broker."""
_LONGEST_PAUSE = 10.0
_Outcome = Prediction | str
"""The answer to a message, or why there is none."""


@dataclass(frozen=True)
class ConsumerLimits:
    """Bounds of a consumer.

    Attributes:
        batch: most texts of a request
        unanswered: most texts that were read and not answered; reading stops there
        grace: seconds in which what was read is answered when the consumer is to end
        most_idle: seconds without a message after which it ends by itself, None for never
    """

    batch: int = 64
    unanswered: int = 512
    grace: float = 20.0
    most_idle: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= self.unanswered:
            raise ValueError(
                f"a batch of {self.batch} texts and at most {self.unanswered} unanswered ones: expected at least one "
                "text a batch, and room for a batch (--batch, --unanswered)"
            )


@dataclass(frozen=True, slots=True)
class _Batch:
    messages: list[Message]
    outcomes: "Future[list[_Outcome]]"


class Consumption:
    """Messages on their way from a source through a server to the answers, and refused ones to the dead letters."""

    def __init__(
        self,
        source: MessageSource,
        answers: Sink,
        dead: Sink | None,
        answering: Answering,
        form: MessageForm,
        limits: ConsumerLimits,
        report: Report,
        quality: Quality | None = None,
    ) -> None:
        """Without `dead`, a message that gets no label is answered with the reason."""
        self._source, self._answers, self._dead = source, answers, dead
        self._answering, self._form, self._limits, self._report = answering, form, limits, report
        self._quality = quality or DEFAULT_QUALITY
        self._flying: deque[_Batch] = deque()
        self._stopping, self._over = threading.Event(), threading.Event()
        self._empty_since: float | None = None
        self._alive = time.monotonic()
        self.counts = Counts()

    def stop(self) -> None:
        """Read no more, finish what was read, and end."""
        self._stopping.set()

    def run(self) -> None:
        """Run until `stop`.

        Raises:
            BrokerError: a broker refuses, or is away for too long; what is not settled then is delivered again, to
                whoever reads next.
        """
        requests = -(-self._limits.unanswered // self._limits.batch)
        with ThreadPoolExecutor(requests, thread_name_prefix="newsdesk-consume") as executor:
            try:
                while not self._stopping.is_set() and not self._idle():
                    self._step(executor)
                self._finish()
            finally:
                self._answering.abandon()
                executor.shutdown(cancel_futures=True)
        if self._flying:
            warn(f"{self.counts.unanswered} texts are left unanswered, to be read again by the next consumer")
        self._report.say(self.counts, self._source.lag())

    def _idle(self) -> bool:
        most, since = self._limits.most_idle, self._empty_since
        return most is not None and since is not None and not self._flying and time.monotonic() - since >= most

    def _step(self, executor: ThreadPoolExecutor) -> None:
        if self._limits.unanswered - self.counts.unanswered >= self._limits.batch:
            messages = self._read(_BUSY_WAIT if self._flying else _IDLE_WAIT)
            if messages == [] and self._empty_since is None:
                self._empty_since = time.monotonic()
            if messages:
                self._empty_since = None
                self.counts.unanswered += len(messages)
                self._flying.append(_Batch(messages, executor.submit(self._outcomes, messages)))
        else:
            self._wait()
        self._settle()
        if self._report.due:
            self._report.say(self.counts, self._source.lag())

    def _read(self, seconds: float) -> list[Message] | None:
        """Return the next messages, None where the broker is away."""
        try:
            messages = self._source.read(self._limits.batch, seconds)
        except BrokerAway as error:
            warn(f"{error}. It is asked again.")
            self._stopping.wait(_HOLD_EVERY)
            return None
        self._alive = time.monotonic()
        return messages

    def _wait(self) -> None:
        """Wait for the batch that is next, and show the broker signs of life."""
        wait([self._flying[0].outcomes], _HOLD_EVERY)
        self._hold()

    def _hold(self) -> None:
        if time.monotonic() - self._alive < _HOLD_EVERY:
            return
        self._alive = time.monotonic()
        try:
            self._source.hold()
        except BrokerAway as error:
            warn(str(error))

    def _finish(self) -> None:
        """Answer what was read, within the time of grace."""
        end = time.monotonic() + self._limits.grace
        timer = threading.Timer(self._limits.grace, self._over.set)
        timer.start()
        try:
            while self._flying and time.monotonic() < end:
                self._wait()
                self._settle()
        finally:
            timer.cancel()

    def _outcomes(self, messages: Sequence[Message]) -> list[_Outcome]:
        """Return the outcome for each message, in their order."""
        outcomes: dict[int, _Outcome] = {}
        texts = {}
        for place, message in enumerate(messages):
            try:
                texts[place] = self._form.text(message)
            except Unreadable as error:
                outcomes[place] = str(error)
        if texts:
            outcomes |= zip(texts, self._answering.answer(list(texts.values())), strict=True)
        return [outcomes[place] for place in range(len(messages))]

    def _settle(self) -> None:
        """Write the answers of the batches that are done, up to the first that is not, and settle their messages."""
        pairs: list[tuple[Message, _Outcome]] = []
        while self._flying and self._flying[0].outcomes.done():
            batch = self._flying.popleft()
            pairs += zip(batch.messages, batch.outcomes.result(), strict=True)
        if not pairs:
            return
        labelled = [self._answer(message, label) for message, label in pairs if isinstance(label, Prediction)]
        refused = [(message, reason) for message, reason in pairs if isinstance(reason, str)]
        dead = [] if self._dead is None else [self._letter(*pair) for pair in refused]
        if self._dead is None:
            labelled += [self._error(*pair) for pair in refused]
        self._persist(lambda: self._answers.write(labelled) if labelled else None)
        self._persist(lambda: self._dead.write(dead) if self._dead and dead else None)
        self._persist(lambda: self._source.settle([message for message, _ in pairs]))
        self.counts.unanswered -= len(pairs)
        self.counts.refused += len(refused)
        self.counts.answered += len(pairs) - len(refused)

    def _persist(self, action: Callable[[], None]) -> None:
        """Do what a broker must not miss, however often it is away meanwhile. Raises BrokerError when time is up."""
        pauses = RetryPauses(self._over, _LONGEST_PAUSE)
        while True:
            try:
                return action()
            except BrokerAway as error:
                warn(f"{error}. It is asked again.")
                try:
                    pauses.pause()
                except Abandoned:
                    raise error from None
                self._hold()

    def _answer(self, message: Message, prediction: Prediction) -> StreamRecord:
        about = {"id": self._form.id(message), "source": message.at, "quality": self._quality}
        values = {name: value for name, value in prediction.as_object().items() if name != "index"}
        return self._record(about | values)

    def _error(self, message: Message, reason: str) -> StreamRecord:
        return self._record({"id": self._form.id(message), "source": message.at, "error": reason})

    def _record(self, body: dict[str, object]) -> StreamRecord:
        return StreamRecord(str(body["id"]).encode(errors="replace"), json.dumps(body).encode())

    def _letter(self, message: Message, reason: str) -> StreamRecord:
        """Return the message as it came, with its id, the reason and where it stood."""
        headers = {"newsdesk-id": self._form.id(message), "newsdesk-error": reason, "newsdesk-source": message.at}
        clean = {name: value.encode(errors="replace").decode() for name, value in headers.items()}
        return StreamRecord(message.key, message.content, clean)

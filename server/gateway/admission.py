"""Admission control: who may queue, and whose turn it is, by what texts cost and not by how many they are.

Cost is in characters, a good proxy of tokens, weighted by what a quality computes. Requests are cut into portions, and
a portion waits for its turn: callers share the model by start-time fair queueing (Goyal, Vin and Cheng, 1996), and a
portion whose caller is gone waits no longer. Long texts have a queue of their own: few are under way at once, each in a
request by itself, so that a backend process is free for short ones; short ones go first, but not for ever.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from newsdesk.server.contract import DEFAULT_QUALITY, MAX_BATCH
from newsdesk.server.gateway.problems import Late, TooMany

caller: ContextVar[str] = ContextVar("newsdesk_caller", default="")
"""The caller whose request is being answered, as in logs and rate limits."""

behind: ContextVar[bool] = ContextVar("newsdesk_behind", default=False)
"""Whether what is being answered is for nobody who waits: it goes when nobody else does."""

LONG = 16 * 1024
"""Characters of one text from which on it is long: the model's work is then about that of a full batch of news."""
LONG_BODY = 32 * 1024
"""Bytes of a request of the Open Inference Protocol from which on it is taken for a long text: it is not read here."""
_PORTION_COST = 500_000
# Of the shipped model, by the articles a second that each quality answers.
_WEIGHTS = {"fast": 1, "balanced": 8, "best": 75}
_COST_EACH = 1_000_000
"""Cost that may be under way for each backend process, at any quality. At best it is two seconds of work."""
_TEXT = 1024
"""Characters of what counts as one text in the queue; a longer one counts as several."""
_PATIENCE = 0.5
"""Seconds that a long text lets short ones go first."""
_CLEARING = 1.0
"""Seconds that short ones are then held back at most, until those under way are answered: Triton would put a long text
into one batch with them."""
_BEHIND_PATIENCE = 5.0
"""Seconds after which a portion of what goes behind is granted whoever waits, so that it goes on under any load."""
_APART = 0.005
"""Seconds after which Triton has given a long text to a backend process."""

Text = str | bytes


@dataclass(frozen=True, slots=True)
class Portion:
    """Neighbouring texts that go to the model in one request."""

    start: int
    end: int
    cost: int
    long: bool


def portions(texts: Sequence[Text], quality: str | None) -> list[Portion]:
    """Cut texts into portions of bounded cost; a long text is one by itself. At quality "fast" none is long.

    Args:
        texts: of one request
        quality: that they are asked for in; None means balanced

    Returns:
        Portions of at most MAX_BATCH texts that hold all of them, in their order.
    """
    weight = _WEIGHTS[quality or DEFAULT_QUALITY]
    cut: list[Portion] = []
    start = cost = 0
    for place, text in enumerate(texts):
        own = weight * (len(text) + 1)
        long = len(text) > LONG and weight > 1
        if place > start and (long or place - start == MAX_BATCH or cost + own > _PORTION_COST):
            cut.append(Portion(start, place, cost, False))
            start, cost = place, 0
        cost += own
        if long:
            cut.append(Portion(start, place + 1, cost, True))
            start, cost = place + 1, 0
    if start < len(texts):
        cut.append(Portion(start, len(texts), cost, False))
    return cut


def load(texts: Sequence[Text]) -> int:
    """Return as how many texts of usual length some texts count in the queue."""
    return sum(1 + len(text) // _TEXT for text in texts)


def of_body(size: int) -> Portion:
    """Return the cost of a request of `size` bytes that is passed through unread."""
    return Portion(0, 1, _WEIGHTS[DEFAULT_QUALITY] * size, size > LONG_BODY)


class Queue:
    """How much may queue: `most` texts in all, and of those as many for each caller as there are callers to share them.

    A caller within its share, or with nothing in the queue, is taken beyond `most`, too, so that those who came first
    cannot keep it out; twice `most` is the end. An empty queue takes a request of any size.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: list[asyncio.Future[None]] = []
        self._held: dict[str, int] = {}
        self.load = self.texts = 0
        """As how many texts those count that have a place, and how many they are."""

    def place(self, load: int, wait: bool, texts: int = 1) -> "QueuePlace":
        """Return a place for texts, to be held while they are on their way.

        Args:
            load: as how many texts they count (see `load`)
            wait: for a place, where there is none
            texts: how many they are
        """
        return QueuePlace(self, caller.get(), load, texts, wait)

    async def enter(self, who: str, load: int, texts: int, wait: bool) -> None:
        """Take a place. Raises TooMany where there is none, and `wait` is False."""
        while not self._fits(who, load):
            if not wait:
                raise TooMany(f"{self.load} texts are on their way to the model, at most {self._most} may be.")
            left = asyncio.get_running_loop().create_future()
            self._waiting.append(left)
            try:
                await left
            finally:
                self._waiting.remove(left)
        self._change(who, load, texts)

    def leave(self, who: str, load: int, texts: int) -> None:
        """Give a place up."""
        self._change(who, -load, -texts)
        for left in self._waiting:
            if not left.done():
                left.set_result(None)

    def _fits(self, who: str, load: int) -> bool:
        own, whole = self._held.get(who, 0), self.load + load
        share = self._most // len(self._held.keys() | {who})
        return not self.load or whole <= self._most or (whole <= 2 * self._most and (not own or own + load <= share))

    def _change(self, who: str, by: int, texts: int) -> None:
        self.load += by
        self.texts += texts
        self._held[who] = self._held.get(who, 0) + by
        if not self._held[who]:
            del self._held[who]


@dataclass(slots=True, eq=False)
class QueuePlace:
    """A place in a queue: entering takes it, leaving gives it up.

    Raises:
        TooMany: on entering, where there is none, and `wait` is False.
    """

    queue: Queue
    who: str
    load: int
    texts: int
    wait: bool

    async def __aenter__(self) -> None:
        await self.queue.enter(self.who, self.load, self.texts, self.wait)

    async def __aexit__(self, *_: object) -> None:
        self.queue.leave(self.who, self.load, self.texts)


@dataclass(slots=True, eq=False)
class Turn:
    """A portion's turn at the model: entering waits for it, at most until `end` (monotonic); leaving gives it on.

    Raises:
        Late: on entering, where `end` passes first.
    """

    portion: Portion
    who: str
    turns: "Turns"
    end: float | None
    behind: bool = False
    granted: asyncio.Future[None] | None = None
    """None once it is granted, or before it is asked for."""

    async def __aenter__(self) -> None:
        self.turns.ask(self)
        if self.granted is None:
            return
        try:
            async with asyncio.timeout(None if self.end is None else max(self.end - time.monotonic(), 0)):
                await self.granted
        except BaseException as error:
            self.turns.give_up(self)
            if isinstance(error, TimeoutError):
                raise Late(
                    "The model could not be asked in the time that a request may take: send less, or later."
                ) from None
            raise

    async def __aexit__(self, *_: object) -> None:
        self.turns.end(self)

    def grant(self) -> None:
        """Let the portion go."""
        if self.granted is not None and not self.granted.done():
            self.granted.set_result(None)
        self.granted = None


@dataclass
class _FairQueue:
    """Portions in the order in which each caller sent its own, taken from the caller that has been served least.

    What a caller was served is in virtual time, which does not run while nobody waits: a caller is not charged for what
    it had while others wanted nothing.
    """

    _waiting: dict[str, deque[Turn]] = field(default_factory=dict)
    _served: dict[str, int] = field(default_factory=dict)
    _now: int = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, turn: Turn) -> None:
        self._waiting.setdefault(turn.who, deque()).append(turn)

    def remove(self, turn: Turn) -> None:
        own = self._waiting[turn.who]
        own.remove(turn)
        if not own:
            del self._waiting[turn.who]

    def next(self) -> Turn:
        return self._waiting[min(self._waiting, key=self._start)][0]

    def take(self) -> Turn:
        turn = self.next()
        self.remove(turn)
        self._now = self._start(turn.who)
        self._served[turn.who] = self._now + turn.portion.cost
        if len(self._served) > 2 * (len(self._waiting) + 64):
            self._served = {who: served for who, served in self._served.items() if served > self._now}
        return turn

    def _start(self, who: str) -> int:
        return max(self._served.get(who, 0), self._now)


class Turns:
    """The turns of all portions, for one event loop. `instances` is the number of backend processes."""

    def __init__(self, instances: int) -> None:
        self._instances = instances
        self._budget, self._slots = _COST_EACH * instances, max(1, instances // 2)
        self._short, self._long, self._behind = _FairQueue(), _FairQueue(), _FairQueue()
        self._cost = self._longs = self._behinds = 0
        self._long_since = self._behind_since = self._held_until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def turn(self, portion: Portion, end: float | None) -> Turn:
        """Return the turn of a portion of the calling request, to be entered before `end`, in monotonic seconds."""
        return Turn(portion, caller.get(), self, end, behind.get())

    def ask(self, turn: Turn) -> None:
        """Have a turn wait, and be granted when it may go."""
        turn.granted = asyncio.get_running_loop().create_future()
        self._queue_of(turn).add(turn)
        self._dispatch()

    def give_up(self, turn: Turn) -> None:
        """Take back what was asked for, granted meanwhile or not."""
        if turn.granted is None:
            self.end(turn)
        else:
            self._queue_of(turn).remove(turn)
            self._dispatch()

    def end(self, turn: Turn) -> None:
        """Give on what a granted turn took."""
        self._behinds -= turn.behind
        if turn.portion.long:
            self._longs -= 1
        else:
            self._cost -= turn.portion.cost
        self._dispatch()

    def _queue_of(self, turn: Turn) -> _FairQueue:
        if turn.behind:
            return self._behind
        return self._long if turn.portion.long else self._short

    def _dispatch(self) -> None:
        """Grant whatever may go now, and come back when time alone changes that."""
        now = asyncio.get_running_loop().time()
        clearing = False
        if self._long and self._longs < self._slots:
            self._long_since = self._long_since or now
            clearing = now >= self._long_since + _PATIENCE  # as `_come_back` counts: a difference is rounded otherwise
            forced = now >= self._long_since + _PATIENCE + _CLEARING
            clear = not self._cost and (not self._short or clearing)
            if now >= self._held_until and (clear or forced):
                self._longs += 1
                self._long.take().grant()
                self._long_since, self._held_until, clearing = 0.0, now + _APART, False
        else:
            self._long_since = 0.0
        while self._short and not clearing and now >= self._held_until:
            cost = self._short.next().portion.cost
            if self._cost and self._cost + cost > self._budget:
                break
            self._cost += cost
            self._short.take().grant()
        self._dispatch_behind(now)
        self._come_back(now)

    def _dispatch_behind(self, now: float) -> None:
        """Grant what goes behind, where nobody else waits or it has waited long enough."""
        while self._behind and now >= self._held_until:
            self._behind_since = self._behind_since or now
            late = now >= self._behind_since + _BEHIND_PATIENCE
            portion = self._behind.next().portion
            # A portion for each backend process: whoever comes next waits for no more than those.
            full = self._behinds >= self._instances or (portion.long and self._longs >= self._slots)
            if full or (not late and (self._short or self._long or self._cost > self._budget)):
                return
            self._behinds += 1
            if portion.long:
                self._longs += 1
            else:
                self._cost += portion.cost
            self._behind.take().grant()
            self._behind_since = 0.0
        if not self._behind:
            self._behind_since = 0.0

    def _come_back(self, now: float) -> None:
        ends = [self._held_until]
        if self._long_since:
            ends += [self._long_since + _PATIENCE, self._long_since + _PATIENCE + _CLEARING]
        if self._behind_since:
            ends.append(self._behind_since + _BEHIND_PATIENCE)
        later = min((end for end in ends if end > now), default=None)
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if later is not None and (self._short or self._long or self._behind):
            self._timer = asyncio.get_running_loop().call_at(later, self._dispatch)

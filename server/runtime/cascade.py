"""The cascade: the cheapest members first, and only who is not yet sure goes on to the next.

After a level a text is answered if its calibrated top probability reaches the threshold of its quality for its top
label, or if members that were not asked yet have no weight in any later level for a text of its length: where a dearer
member would only harm, nobody pays for it. The last level answers whatever is left.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import numpy as np
from msgspec import Meta, Struct

from newsdesk.server.contract import DEFAULT_QUALITY, QUALITIES
from newsdesk.server.runtime import calibrate, combine
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.calibrate import Calibrator, Uncalibrated
from newsdesk.server.runtime.combine import Combiner, Mean, Stack
from newsdesk.server.runtime.files import File

DEFAULT = QUALITIES.index(DEFAULT_QUALITY)
"""The place of the quality that a text has when none is asked for."""
ALWAYS, NEVER = 0.0, 2.0
"""Thresholds that every probability reaches, and that none does."""
ABSENT = -1.0
"""Stands in the answers of members that a text was not taken to."""

Ask = Callable[[int, Array], Callable[[], Array]]
"""Start member i on the texts at `rows`, INT64 [rows]. The callable that returns waits for its calibrated
probabilities, FP [rows, labels]."""
Threshold = Annotated[float, Meta(ge=0)]
PerLabel = Annotated[list[Threshold], Meta(min_length=2)]


class Thresholds(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For each quality, the top probability, by label, from which a level answers."""

    fast: PerLabel
    balanced: PerLabel
    best: PerLabel


class Level(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Members combined, calibrated, and when that is enough."""

    members: Annotated[list[str], Meta(min_length=1)]
    combiner: Combiner
    calibrator: Calibrator
    thresholds: Thresholds

    @property
    def name(self) -> str:
        """Its members, joined by +."""
        return name(self.members)


class Answered(NamedTuple):
    """The answers to n texts.

    Attributes:
        probabilities: FP32 [n, labels]
        levels: the level that answered each, INT64 [n]
        members: each member's own probabilities, FP32 [members, n, labels], ABSENT where it was not asked
    """

    probabilities: Array
    levels: Array
    members: Array


class LoadedLevel:
    """A level, ready to run. `members` are the columns, of all members, that it reads."""

    def __init__(self, level: Level, order: list[str], stack: Stack | None) -> None:
        self.name = level.name
        self.members = [order.index(member) for member in level.members]
        self._combine = combine.ready(level.combiner, stack)
        self._calibrate = calibrate.ready(level.calibrator)
        self._thresholds = np.array([getattr(level.thresholds, quality) for quality in QUALITIES], np.float32)
        self._may_answer = (self._thresholds <= 1).any(-1)

    def probabilities(self, members: Array, lengths: Array | None = None) -> Array:
        """Return the calibrated combination of members, FP32 [n, labels].

        Args:
            members: all members' probabilities, FP [members, n, labels]
            lengths: of the texts in words, INT [n]; a level that goes by length needs them
        """
        return self._calibrate(self._combine(members[self.members], lengths), lengths).astype(np.float32)

    def may_answer(self, quality: Array) -> bool:
        """Whether any text of these qualities, INT [n], could be answered here."""
        return bool(self._may_answer[quality].any())

    def decide(self, probabilities: Array, quality: Array) -> Array:
        """Return which texts are answered, BOOL [n].

        Args:
            probabilities: FP [n, labels]
            quality: of each text, INT [n] into QUALITIES
        """
        answered: Array = probabilities.max(-1) >= self._thresholds[quality, probabilities.argmax(-1)]
        return answered


class Cascade:
    """All levels, ready to run. `order` names the members as the manifest does; `load` opens a stacker's graph."""

    def __init__(self, levels: list[Level], order: list[str], load: Callable[[File], Stack]) -> None:
        check(levels, order)
        self.levels = []
        for level in levels:
            stack = load(level.combiner.graph) if isinstance(level.combiner, combine.Stacked) else None
            self.levels.append(LoadedLevel(level, order, stack))
        self._combined = [(level.members, level.combiner) for level in levels]
        self._by_length = any(isinstance(level.combiner, combine.ByLength) for level in levels)
        self._count = len(order)
        self._labels = len(levels[0].thresholds.best)

    def answer(self, quality: Array, ask: Ask, lengths: Array | None = None) -> Answered:
        """Answer n texts.

        A member is asked once at most, and only of texts that no earlier level answered. All members that are asked of
        the same texts are started before the first one's answer is read, so that those of a GPU work at once.

        Args:
            quality: of each text, INT [n] into QUALITIES
            ask: starts a member
            lengths: of each text in words, INT [n]; a level that goes by length needs them
        """
        n = len(quality)
        members = np.full((self._count, n, self._labels), ABSENT, np.float32)
        answers = np.empty((n, self._labels), np.float32)
        by = np.empty(n, np.int64)
        rows, asked = np.arange(n), set[int]()
        pending: dict[int, Callable[[], Array]] = {}
        final = enough(self._combined, lengths) if self._by_length and lengths is not None else None
        for i, loaded in enumerate(self.levels):
            for member in loaded.members:
                if member not in asked:
                    pending[member] = ask(member, rows)
                    asked.add(member)
            last = i == len(self.levels) - 1
            ends = final is not None and not last and final[i, rows].any()
            if not (last or ends or loaded.may_answer(quality[rows])):
                continue
            for member, result in pending.items():
                members[member, rows] = result()
            pending.clear()
            combined = loaded.probabilities(members[:, rows], None if lengths is None else lengths[rows])
            done = np.ones(len(rows), bool) if last else loaded.decide(combined, quality[rows])
            if final is not None and ends:
                done |= final[i, rows]
            answers[rows[done]], by[rows[done]] = combined[done], i
            rows = rows[~done]
            if not len(rows):
                break
        return Answered(answers, by, members)


def name(members: list[str]) -> str:
    """Return what the level of these members is called."""
    return "+".join(members)


def replay(cascade: Cascade, members: Array, quality: int, lengths: Array | None = None) -> Answered:
    """Answer n texts, all of one quality, whose members' answers are known.

    Args:
        cascade: the levels
        members: probabilities, FP32 [members, n, labels]
        quality: place in QUALITIES
        lengths: of the texts in words, INT [n]; a level that goes by length needs them
    """
    asked = np.full(members.shape[1], quality)
    return cascade.answer(asked, lambda member, rows: lambda: members[member, rows], lengths)


def enough(levels: Sequence[tuple[list[str], Combiner]], lengths: Array) -> Array:
    """Return after which levels nothing can change by asking on.

    A member that is not asked yet changes nothing where all later levels give it no weight.

    Args:
        levels: the members of each and their combiner
        lengths: of the texts in words, INT [n]

    Returns:
        BOOL [levels - 1, n].
    """
    weights = [combine.weights(combiner, len(members), lengths) for members, combiner in levels]
    ends = np.ones((len(levels) - 1, len(lengths)), bool)
    asked: set[str] = set()
    for i, (members, _) in enumerate(levels[:-1]):
        asked |= {*members}
        for (later, _), of_later in zip(levels[i + 1 :], weights[i + 1 :], strict=True):
            new = [place for place, member in enumerate(later) if member not in asked]
            ends[i] &= ~of_later[:, new].any(-1)
    return ends


def uncertainty(levels: list[Level], order: list[str], answered: Answered, lengths: Array) -> Array:
    """Return how uncertain answers are among the members of the level that answered, by `combine.uncertainty`.

    Args:
        levels: of the cascade
        order: the members' names as they stand in `answered`
        answered: n answers
        lengths: of the texts in words, INT [n]

    Returns:
        In nats, FP32 [n, 3]: in all, of the data, of the model.
    """
    split = np.empty((len(lengths), 3), np.float32)
    for i, level in enumerate(levels):
        if not len(rows := np.flatnonzero(answered.levels == i)):
            continue
        places = [order.index(member) for member in level.members]
        weights = combine.weights(level.combiner, len(places), lengths[rows])
        split[rows] = np.stack(combine.uncertainty(answered.members[places][:, rows], weights), axis=-1)
    return split


def alone(member: str, labels: int) -> Level:
    """Return the one level of a cascade with one member, whose answers are taken as they are."""
    always = [ALWAYS] * labels
    thresholds = Thresholds(fast=always, balanced=always, best=always)
    return Level(members=[member], combiner=Mean(), calibrator=Uncalibrated(), thresholds=thresholds)


def check(levels: list[Level], order: list[str]) -> None:
    """Check that all sizes match the members and each other.

    Raises:
        ValueError: the level, its size and what was expected.
    """
    if not levels:
        raise ValueError("the cascade has no level, expected one at least")
    labels = len(levels[0].thresholds.best)
    for level in levels:
        if unknown := [member for member in level.members if member not in order]:
            raise ValueError(f"level {level.name}: no member {unknown[0]!r}, expected one of {', '.join(order)}")
        if len(set(level.members)) < len(level.members):
            raise ValueError(f"level {level.name}: names a member twice")
        for what, size, expected in _sizes(level, labels):
            if size != expected:
                raise ValueError(f"level {level.name}: {what} are {size}, expected {expected}")


def _sizes(level: Level, labels: int) -> list[tuple[str, int, int]]:
    members = len(level.members)
    sizes = [(f"thresholds of {name}", len(getattr(level.thresholds, name)), labels) for name in QUALITIES]
    match level.combiner:
        case combine.Weighted(weights) | combine.Bayes(weights):
            sizes.append(("weights", len(weights), members))
        case combine.ByLength(bounds, by_bucket):
            sizes.append(("buckets of weights", len(by_bucket), len(bounds) + 1))
            sizes += [("weights", len(weights), members) for weights in by_bucket]
        case combine.Ranks(values, ranks):
            sizes += [("members of the ranks", len(lists), members) for lists in (values, ranks)]
            for of_member, placed in zip(values, ranks, strict=False):
                sizes += [("labels of the ranks", len(lists), labels) for lists in (of_member, placed)]
                sizes += [("ranks", len(b), len(a)) for a, b in zip(of_member, placed, strict=False)]
    match level.calibrator:
        case calibrate.TemperatureByLength(bounds, temperatures):
            sizes.append(("temperatures", len(temperatures), len(bounds) + 1))
        case calibrate.Platt(slopes, offsets) | calibrate.Vector(slopes, offsets):
            sizes += [("slopes", len(slopes), labels), ("offsets", len(offsets), labels)]
        case calibrate.Isotonic(uncalibrated, calibrated):
            sizes += [("isotonic lines", len(lines), labels) for lines in (uncalibrated, calibrated)]
            sizes += [("isotonic values", len(b), len(a)) for a, b in zip(uncalibrated, calibrated, strict=False)]
    return sizes


def files(levels: list[Level]) -> list[File]:
    """Return the files that the levels need: the stackers' graphs."""
    return [level.combiner.graph for level in levels if isinstance(level.combiner, combine.Stacked)]

"""How much of a build is left: stages, and seconds by what like stages took."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from newsdesk.build.pipeline.artifacts import ENTRY, Artifact
from newsdesk.build.pipeline.graph import BuildStage

TYPICAL = {
    "read": 0.1,
    "clean": 0.2,
    "split": 0.1,
    "embed": 5,
    "out-of-fold": 2,
    "select": 0.3,
    "drop": 0.1,
    "pretrain": 300,
    "teach": 60,
    "train": 5,
    "cross-fit": 5,
    "export": 10,
    "quantise": 20,
    "engines": 20,
    "compile": 10,
    "verify": 3,
    "evaluate": 3,
    "ensemble": 1,
    "judge": 0.5,
}
"""Seconds of a stage of a build of some hundred rows, where no build has left its own. Those that ran correct them."""
_OTHER = 5.0


class Remaining:
    """The stages of a build that are done and those that are left, with an estimate of the seconds left.

    A stage is expected to take what it took in this artifact store the last time, or a stage of its name took for
    another member; else what is typical, times how much slower than typical the stages of this build were.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """`root`: the folder of the artifact store."""
        self._clock = clock
        self._recorded = _recorded(root)
        self._left: list[BuildStage] = []
        self._done: set[str] = set()
        self._running: tuple[BuildStage, float] | None = None
        self._measured = self._typical = 0.0

    def expect(self, stages: Iterable[BuildStage]) -> None:
        """Take these as all the stages of the build; those that are done stay so."""
        self._left = [stage for stage in stages if stage.id not in self._done]

    def begin(self, stage: BuildStage) -> None:
        """Note that a stage runs from now on."""
        self._running = stage, self._clock()

    def end(self, stage: BuildStage, artifact: Artifact) -> bool:
        """Count a stage as done; tell whether it ran, instead of being there already."""
        seconds = self._clock() - self._running[1] if self._running else 0.0
        self._running = None
        self._done.add(stage.id)
        self._left = [left for left in self._left if left.id != stage.id]
        ran = seconds >= artifact.entry["seconds"] - 0.1  # as it is rounded
        if ran:
            self._recorded[stage.name, stage.of] = self._recorded[stage.name, ""] = seconds
            self._measured += seconds
            self._typical += TYPICAL.get(stage.name, _OTHER)
        return ran

    @property
    def done(self) -> int:
        """The stages that are done."""
        return len(self._done)

    @property
    def total(self) -> int:
        """The stages of the build, those that are done among them."""
        return len(self._done) + len(self._left)

    @property
    def running(self) -> str:
        """The id of the stage that runs; empty between stages."""
        return self._running[0].id if self._running else ""

    def seconds(self) -> float:
        """Return the seconds that are left, by what each stage is expected to take."""
        expected = sum(self._expected(stage) for stage in self._left)
        if self._running is None:
            return expected
        stage, began = self._running
        return max(expected - min(self._clock() - began, self._expected(stage)), 0.0)

    def line(self) -> str:
        """Return what is left for a person."""
        if not self._left:
            return f"{self.done} of {self.total} stages are done"
        return f"{self.done} of {self.total} stages are done, about {duration(self.seconds())} left"

    def _expected(self, stage: BuildStage) -> float:
        for key in ((stage.name, stage.of), (stage.name, "")):
            if key in self._recorded:
                return self._recorded[key]
        pace = self._measured / self._typical if self._typical else 1.0
        return pace * TYPICAL.get(stage.name, _OTHER)


def duration(seconds: float) -> str:
    """Return seconds for a person, as roughly as an estimate deserves: 3 s, 40 s, 2 min, 1 h 20 min."""
    if seconds < 10:
        return f"{max(round(seconds), 1)} s"
    if seconds < 95:
        return f"{10 * round(seconds / 10)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _recorded(root: Path) -> dict[tuple[str, str], float]:
    """Return the seconds of the latest artifacts, by stage and member, and of the latest of all members under ""."""
    entries = []
    for path in root.glob(f"*/*/{ENTRY}"):
        try:
            entry = Artifact.read(path.parent).entry
            entries.append((entry["made"], entry["stage"], entry["name"], float(entry["seconds"])))
        except (OSError, ValueError, KeyError):
            continue  # a folder that is being written or deleted tells nothing
    recorded: dict[tuple[str, str], float] = {}
    for _, stage, name, seconds in sorted(entries):
        recorded[stage, name] = recorded[stage, ""] = seconds
    return recorded

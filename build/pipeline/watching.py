"""Show how far a build is: a bar on a terminal, else a line behind each stage that ran."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.progress import Progress

from newsdesk.build import progress
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.pipeline.graph import BuildStage
from newsdesk.build.pipeline.remaining import Remaining, duration


class BuildWatch:
    """Is told of the stages, and shows them."""

    def __init__(self, remaining: Remaining, bars: Progress, say: Say) -> None:
        self._remaining, self._bars, self._say = remaining, bars, say
        self._task = bars.add_task("stages", total=None, left=lambda: f"about {duration(remaining.seconds())} left")

    def expect(self, stages: Iterable[BuildStage]) -> None:
        """Take these as all the stages of the build."""
        self._remaining.expect(stages)
        self._draw()

    def begin(self, stage: BuildStage) -> None:
        """Show that a stage is looked for or runs."""
        self._remaining.begin(stage)
        self._draw()

    def end(self, stage: BuildStage, artifact: Artifact) -> None:
        """Show that a stage's artifact is there; without a terminal, say what is left if it ran."""
        ran = self._remaining.end(stage, artifact)
        self._draw()
        if ran and self._bars.disable:
            self._say(f"  {self._remaining.line()}")

    def _draw(self) -> None:
        title = f"stages: {self._remaining.running}" if self._remaining.running else "stages"
        self._bars.update(
            self._task, description=title, completed=self._remaining.done, total=self._remaining.total or None
        )


@contextlib.contextmanager
def watch(artifacts: Path, say: Say) -> Iterator[BuildWatch]:
    """Show the stages of a build.

    Args:
        artifacts: the folder of the artifact store, whose records say how long each stage takes
        say: shows a line
    """
    with progress.bars() as bars:
        yield BuildWatch(Remaining(artifacts), bars, say)

"""The keeper of a candidate: loaded beside the current version once that answers, and promoted or withdrawn.

Nothing of it may end the server. What the keeper of a current version restarts tritonserver for withdraws a candidate.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from newsdesk.server.machine import versions
from newsdesk.server.machine.servers import LOAD
from newsdesk.server.rollouts import PROMOTE, PROMOTED, WITHDRAW, WITHDRAWN
from newsdesk.server.runtime.errors import ServerError
from newsdesk.server.serving import promotions
from newsdesk.server.serving.deployment import Deployment
from newsdesk.server.serving.keeper import Broken, Keeper, Steps
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.workspace import Workspace

_DEATHS = 3
"""Times that its processes, or tritonserver beside them, may have to be started anew."""
_NICE = 10
_NOTICE_SECONDS = 1.0
"""Until it is unloaded, once it is told that the candidate is no more asked; the gateway looks more often."""


class CandidateKeeper(Keeper):
    """The keeper of a version that is tried beside the current one, for as long as the trial goes on."""

    def __init__(
        self,
        deployment: Deployment,
        settings: Settings,
        space: Workspace,
        say: Callable[[str], None],
        ending: Callable[[], bool],
        current: Keeper,
    ) -> None:
        """`current` keeps the version beside it."""
        super().__init__(deployment, settings, space, say, ending)
        assert deployment.candidate is not None
        self._candidate, self._current = deployment.candidate, current
        self._folder = deployment.folder / self._candidate.version
        self._deaths = 0
        self.unloaded, self.wanted = True, LOAD

    def place(self) -> None:
        """Do nothing: tritonserver ends where a model of its start cannot be loaded."""

    def choose(self) -> None:
        """Have the server that is started anew begin without it."""
        self._workspace.empty(self.model)
        if not self.unloaded:
            self._deaths += 1
            self.unloaded, self.wanted = True, self.wanted or LOAD

    def step(self) -> None:
        """Go on with what is under way. A fault that nothing heals withdraws it."""
        try:
            super().step()
        except Broken as error:
            self._work = self._withdraw(str(error))

    def _look(self) -> Steps | None:
        if self.outcome:
            self.wanted = ""
            return None
        if self._current.version == self._candidate.version:
            return self._finish_promotion()
        if not self._folder.is_dir():
            return self._end_trial(f"{WITHDRAWN}: its folder was taken away")
        if self._deaths >= _DEATHS:
            return self._withdraw(f"its processes ended {self._deaths} times")
        wanted, _, why = self.wanted.partition(": ")
        if wanted in (PROMOTE, WITHDRAW):
            self.wanted, self._asked = "", 1
            return self._promote() if wanted == PROMOTE else self._withdraw(why or "on demand")
        return super()._look()

    def _heal(self, what: str) -> Steps:
        self._deaths += 1
        return self._withdraw(f"{what}, {self._deaths} times") if self._deaths >= _DEATHS else super()._heal(what)

    def _load(self, generation: str) -> Steps:
        yield from super()._load(generation)
        if not self._candidate.share:
            for stub in self._stubs:
                stub.yield_to_others(_NICE)

    def _refuse(self, error: Exception) -> None:
        self._settle(str(error))
        self._say(f"not loaded: {error}")

    def _promote(self) -> Steps:
        """Have the current version's keeper load this version; where that fails, go on as before."""
        self._say("promoting it")
        current, before = self._current, self._current.deployment
        current.deploy(replace(before, target=self._deployment.target, without=""))
        loads, current.wanted = current.loads, LOAD
        while current.loads == loads:
            yield
        if current.version == self._candidate.version:
            yield from self._finish_promotion()
            return
        current.deploy(before)
        self._settle(f"version {self._candidate.version} could not be loaded in place of version {current.version}")
        self._say("not promoted")

    def _finish_promotion(self) -> Steps:
        try:
            promotions.note(self._settings.state, self._folder)
        except (ServerError, OSError) as error:
            self._say(f"promoted, but not noted for the next start, which has to be without its flag: {error}")
        yield from self._end_trial(PROMOTED)

    def _withdraw(self, why: str) -> Steps:
        try:
            versions.set_aside(self._folder)
        except ServerError as error:
            self._say(f"{error}. It is withdrawn until the next start")
        yield from self._end_trial(f"{WITHDRAWN}: {why}")

    def _end_trial(self, outcome: str) -> Steps:
        self._say(outcome)
        self.outcome = outcome
        self.record()
        if not self._folder.is_dir():  # another version may come under its number
            self._current.deploy(replace(self._current.deployment, without=""))
        asked_no_more = time.monotonic() + _NOTICE_SECONDS
        while time.monotonic() < asked_no_more and not self.unloaded:
            yield
        yield from self._unload()

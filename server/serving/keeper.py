"""One model of a running tritonserver, kept answering: loaded, probed, healed, rolled over and unloaded by itself.

What takes time is a generator that the supervisor's loop goes on with at each tick, so that no model waits for another.
"""

import contextlib
import time
from collections.abc import Callable, Generator

from newsdesk.server.machine.processes import Process
from newsdesk.server.machine.servers import LOAD, Served
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.errors import ServerError
from newsdesk.server.runtime.repository import RepositoryError
from newsdesk.server.serving import graphs, hung
from newsdesk.server.serving.deployment import Deployment
from newsdesk.server.serving.endpoint import Endpoint
from newsdesk.server.serving.probes import Probes
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.steps import finish
from newsdesk.server.serving.triton import Triton, TritonError, TritonRefusal
from newsdesk.server.serving.workspace import Workspace

LOAD_SECONDS = 300.0
PROBES_FAILED = 3
_PROBE_SECONDS = 1.0
_LOOK_TIMEOUT = 1.0
_UNLOAD_SECONDS, _UNLOAD_SECONDS_EACH = 15.0, 2.0
_FAILED = 500
_UNLOADED = "the model is unloaded, until it is loaded again"

Steps = Generator[None, None, None]


class Broken(ServerError):
    """A tritonserver that has to be started anew, for this reason."""


class Keeper:
    """One model's life in a server: what it serves, what is asked of it, and which backend processes are its own."""

    def __init__(
        self,
        deployment: Deployment,
        settings: Settings,
        space: Workspace,
        say: Callable[[str], None],
        ending: Callable[[], bool],
    ) -> None:
        """`ending` says whether the server is being stopped, or has to be started anew."""
        self._deployment, self._settings, self._workspace = deployment, settings, space
        self._say, self._ending = say, ending
        self.model = deployment.model
        self.endpoint: Endpoint | None = None
        self.wanted = ""
        """LOAD or UNLOAD, as somebody asks for it."""
        self.unloaded = False
        self.outcome = ""
        """The outcome of a candidate."""
        self._stubs: set[Process] = set()
        self._retired: dict[Process, float] = {}
        self._content = self._rendered = "", ""
        self._placed = ""
        self._loads = self._asked = 0
        self._probes, self._next_probe = Probes(), 0.0
        self._work: Steps | None = None

    # Before the server starts, and when it has.

    def place(self) -> None:
        """Have the server find what the model repository holds now.

        Raises:
            ServerError: the model cannot be served.
            OSError: a full disk.
        """
        self._place(finish(self._render()))

    def began(self, triton: Triton) -> None:
        """Note that a server has been started, which does not yet answer."""
        self.endpoint = Endpoint(triton, self.model)

    def proved(self) -> None:
        """Note that what was placed last answers."""
        self._stubs, self._retired = self._endpoint.stubs(), {}
        self._serve()

    @property
    def _endpoint(self) -> Endpoint:
        assert self.endpoint is not None
        return self.endpoint

    # While it serves.

    @property
    def loads(self) -> int:
        """How often it was told to load or unload the model, and did or refused."""
        return self._loads

    @property
    def version(self) -> str:
        """The number of the version that it serves."""
        return self._content[0]

    @property
    def deployment(self) -> Deployment:
        """How the model is served, from the next load on."""
        return self._deployment

    def deploy(self, deployment: Deployment) -> None:
        """Serve the model so from the next load on."""
        self._deployment = deployment

    def step(self) -> None:
        """Go on with what is under way, else look for what is to be done.

        Raises:
            Broken: the server has to be started anew.
        """
        self._end_retired()
        for fault in hung.end(self._stubs, self._workspace.heartbeats):
            self._say(fault)  # what died is healed
        self._work = self._work or self._look()
        if self._work is None:
            return
        try:
            next(self._work)
        except StopIteration:
            self._work = None
        except BaseException:
            self._work = None
            raise

    def _look(self) -> Steps | None:
        if lost := {stub for stub in self._stubs if not stub.working}:
            ids = ", ".join(str(stub.pid) for stub in lost)
            return self._heal(f"backend process {ids} died")
        if not self.unloaded and len(self._stubs) < self._deployment.instances:
            return self._heal("a backend process died as soon as it was loaded")
        if self.wanted:
            wanted, self.wanted, self._asked = self.wanted, "", 1
            return self._reload() if wanted == LOAD else self._unload()
        if self.unloaded or time.monotonic() < self._next_probe:
            return None
        work = self._probe()
        self._next_probe = time.monotonic() + _PROBE_SECONDS
        return work

    def _probe(self) -> Steps | None:
        """Ask the model. Returns the healing that it needs, or None. Raises Broken."""
        probes = self._probes
        probes.ask(self._endpoint, self._stubs)
        if self._ending():
            return None
        if probes.failed == PROBES_FAILED:
            return self._heal(f"{PROBES_FAILED} real requests in a row failed: {probes.problem}")
        if probes.failed >= 2 * PROBES_FAILED:
            raise Broken(f"real requests still fail: {probes.problem}")
        return None

    def _heal(self, what: str) -> Steps:
        """Start a fresh generation of backend processes beside what is left of this one, then end this one."""
        began = time.monotonic()
        self._say(f"{what}; starting fresh ones")
        self.record(unready=what)
        for stub in self._stubs:
            if stub.held:
                stub.kill()  # one that was stopped and went on later would take the server down
        yield from self._renew()
        self._say(f"healed in {time.monotonic() - began:.1f} s")

    def _renew(self) -> Steps:
        """Load the proven generation once more. Raises Broken."""
        try:
            yield from self._load(self._workspace.renew(self.model))
        except (TritonError, OSError) as error:
            raise Broken(f"fresh ones did not start: {error}") from error
        self.record()

    def _reload(self) -> Steps:
        """Load the model repository anew, under load; where the new version fails, the old one goes on."""
        self._say(f"loading {self._deployment.folder} anew")
        before = self._rendered
        try:
            generation = yield from self._render()
        except (ServerError, OSError) as error:
            self._refuse(error)
            return
        try:
            yield from self._load(generation)
        except TritonRefusal as error:
            self._rendered = before
            self._refuse(error)
            if self.unloaded:
                self._workspace.empty(self.model)
            else:
                yield from self._renew()  # Triton would try the refused one again and again
        except (TritonError, OSError) as error:
            self._rendered = before
            raise Broken(f"the load was cut off: {error}") from error
        else:
            self._serve()
            self._say("loaded")

    def _unload(self) -> Steps:
        """Take the model out of service until the next load. Its backend processes end when they have answered."""
        self._workspace.empty(self.model)
        self.unloaded, self._stubs = True, set()
        while self._endpoint.generation(_LOOK_TIMEOUT):
            yield
        self._settle()
        self._say("unloaded")

    def _load(self, generation: str) -> Steps:
        """Have Triton load a generation; the one before answers until it can.

        Raises:
            Refusal: Triton refuses it.
            TritonError: it takes longer than LOAD_SECONDS.
        """
        before = self._endpoint.stubs() | self._stubs
        logged = self._endpoint.log_size()
        self._place(generation)
        deadline = time.monotonic() + LOAD_SECONDS
        while self._endpoint.generation(_LOOK_TIMEOUT) != generation:
            if reason := self._endpoint.failed_load(logged):
                raise TritonRefusal(_FAILED, reason)
            if time.monotonic() > deadline:
                raise TritonError(f"not loaded within {LOAD_SECONDS:.0f} s")
            yield
        self._workspace.prove(self.model, generation)
        self._probes.forget()
        since = time.monotonic()
        self._retired |= dict.fromkeys(self._stubs, since)
        self._stubs = self._endpoint.stubs() - before

    def _end_retired(self) -> None:
        """End what Triton never unloads: the generation of a backend process that died under a request."""
        allowed = _UNLOAD_SECONDS + _UNLOAD_SECONDS_EACH * self._deployment.instances
        for stub, since in list(self._retired.items()):
            if time.monotonic() > since + allowed:
                stub.kill()
            if not stub.alive:
                del self._retired[stub]

    # While the server is started anew.

    def halt(self) -> None:
        """Drop what is under way: the server is gone."""
        self._work = None

    def choose(self) -> None:
        """Have the server find what is to serve next: what is wished for, else what served last.

        Raises:
            ServerError: the model cannot be served.
            OSError: a full disk.
        """
        wanted, self.wanted = self.wanted, ""
        self._asked |= bool(wanted)
        self._rendered = self._content
        if wanted == LOAD:
            self._place(finish(self._render()))
            self.unloaded = False
        elif wanted or self.unloaded:
            self._workspace.empty(self.model)
            self.unloaded = True
        else:
            self._placed = self._workspace.restore(self.model)

    def refuse_asked(self, error: Exception) -> None:
        """Say that what was asked for cannot be had, where something was."""
        if self._asked:
            self._refuse(error)

    def settle(self) -> None:
        """Record that what was asked for is so: the model is unloaded."""
        self._stubs, self._retired = set(), {}
        self._settle()

    # What it says of itself.

    def record(self, refused: str = "", unready: str = "") -> None:
        """Leave for other processes how the model is."""
        unready = unready or (_UNLOADED if self.unloaded else "")
        with contextlib.suppress(OSError):  # a full disk: others learn it later
            self._workspace.record(
                self.model, Served(self._content[0], self._loads, refused, unready, self.unloaded, self.outcome)
            )

    def _settle(self, refused: str = "") -> None:
        """Record how what was asked for came out."""
        self._loads, self._asked = self._loads + self._asked, 0
        self.record(refused)

    def _refuse(self, error: Exception) -> None:
        self._settle(str(error))
        self._say(f"not loaded, the version before goes on: {error}")

    def _serve(self) -> None:
        """Note that what was placed last answers."""
        self._workspace.prove(self.model, self._placed)
        self._probes.forget()
        self._next_probe = time.monotonic() + _PROBE_SECONDS
        self.unloaded, self._content = False, self._rendered
        self._settle()

    def _place(self, generation: str) -> None:
        self._workspace.place(self.model, generation)
        self._placed = generation

    def _render(self) -> Generator[None, None, str]:
        """Make a generation of what the model repository holds now, and return its number."""
        deployment, cached = self._deployment, bool(self._settings.cache_bytes)
        version = deployment.version()
        digest = manifest.digest(version / manifest.FILE)
        served, before = self._content
        if cached and version.name == served and digest != before:
            raise RepositoryError(
                f"version {served} was changed in place, and the response cache would go on giving its old answers. "
                "Put the new one into a folder of the next number, or start anew."
            )
        parameters = {"target": deployment.target, "threads": str(deployment.threads)}
        if self._settings.unsure_share is not None:
            parameters["unsure_share"] = str(self._settings.unsure_share)
        if self._settings.drift_window is not None:
            parameters["drift_window"] = str(self._settings.drift_window)
        rewritten = yield from graphs.making(version, deployment.target, self._settings.state, self._say)
        generation = self._workspace.render(
            deployment.folder,
            parameters,
            deployment.instances,
            cached,
            deployment.queue_delay,
            version,
            self.model,
            rewritten,
        )
        self._rendered = version.name, digest
        return generation

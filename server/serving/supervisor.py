"""Start tritonserver, prove it with a real request, and keep it answering: what dies is healed, and said so."""

import contextlib
import signal
import time
from collections.abc import Callable

from newsdesk.server.gateway import process
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.errors import ServerError
from newsdesk.server.serving import hung, privacy, workspace
from newsdesk.server.serving.pauses import Pauses
from newsdesk.server.serving.probes import ARTICLE, TIMEOUT, Probes
from newsdesk.server.serving.processes import Process
from newsdesk.server.serving.pulse import Pulse
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.triton import Answer, Refusal, Triton, TritonError, find_installation
from newsdesk.server.serving.workspace import MODEL, RepositoryError, Served, Workspace

_TICK_SECONDS = 0.2
_PROBE_SECONDS = 1.0
_PROBES_FAILED = 3
_LOAD_SECONDS = 300.0
_LOOK_TIMEOUT = 1.0
_UNLOAD_SECONDS, _UNLOAD_SECONDS_EACH = 15.0, 2.0


class Supervisor:
    """One server for as long as it is wanted. Use it from the main thread: it handles SIGINT, SIGTERM and SIGHUP (stop
    when the requests at hand are answered; at the second, at once; a SIGHUP that is ignored at the start stays so),
    SIGUSR1 (load the model repository anew) and SIGUSR2 (unload the model until then).

    Once it has served, it never gives up: what does not start is started again, after pauses that grow.
    """

    def __init__(self, settings: Settings, target: str, say: Callable[[str], None]) -> None:
        self._settings, self._print = settings, say
        self._parameters = {"target": target, "threads": str(settings.threads or 1)}
        if settings.unsure_share is not None:
            self._parameters["unsure_share"] = str(settings.unsure_share)
        self._workspace = Workspace(settings.state)
        self.log = settings.state / "log" / f"tritonserver-{settings.http_port}.log"
        self._triton = Triton(settings, self._workspace, self.log)
        self._pulse: Pulse | None = None
        self._gateway = process.beside(settings, self._workspace) if settings.gateway else None
        self._opened = False
        self._stubs: set[Process] = set()
        self._retired: dict[Process, float] = {}
        self._stop_signals = 0
        self._wanted = 0
        """The signal that asks for a load or an unload, 0 for none."""
        self._unloaded = False
        self._content = self._rendered = "", ""
        self._placed = ""
        self._loads = self._asked = 0
        self._probes = Probes()
        self._pauses = Pauses()

    def run(self, ready: Callable[[Answer], None]) -> None:
        """Serve until a signal: start, call `ready` with the first answer, watch, stop, clean up.

        Raises ServerError, with the reason, where the server does not start or does not stay up.
        """
        for dead in workspace.remove_dead(self._settings.state):
            self._say(f"removed what a killed server left behind ({dead})")
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup
        stops = [number for number in _STOP if not (ignored and number == signal.SIGHUP)]
        handlers = {number: signal.signal(number, self._on_stop) for number in stops}
        handlers |= {number: signal.signal(number, self._on_wish) for number in (signal.SIGUSR1, signal.SIGUSR2)}
        privacy.close(self._settings.state)
        try:
            here = find_installation()
            self._workspace.lay_out(here.backend, here.caches, here.stub)
            self._place(self._render())
            answer = self._start()
            if answer:
                self._open()
            if answer and not self._stopping:
                ready(answer)
                self._watch()
        finally:
            if self._gateway:  # its requests need the server behind it to the end
                self._gateway.ask_to_stop()
                self._gateway.wait()
            self._end_pulse()
            self._triton.ask_to_stop()
            self._triton.wait()
            self._workspace.clear_shm()
            self._workspace.remove()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    @property
    def _stopping(self) -> bool:
        return self._stop_signals > 0

    def _on_stop(self, *_: object) -> None:
        self._stop_signals += 1
        if self._stop_signals > 1:
            self._triton.kill()
            if self._gateway:
                self._gateway.kill()
        elif self._gateway and self._gateway.running:
            self._gateway.ask_to_stop()
        else:
            self._triton.ask_to_stop()

    def _on_wish(self, number: int, _: object) -> None:
        self._wanted = number

    def _say(self, what: str) -> None:
        with contextlib.suppress(OSError):  # a full disk, or nobody who reads
            self._print(what)

    def _open(self) -> None:
        """Start the gateway and wait until it listens. Raises GatewayError."""
        if self._gateway:
            self._gateway.start()
            while not self._stopping and not self._gateway.live():
                time.sleep(_TICK_SECONDS)
            self._opened = True

    def _render(self) -> str:
        """Return the number of a generation of what the model repository holds now."""
        source = self._settings.model_repository / MODEL
        cached = bool(self._settings.cache_bytes)
        version = workspace.latest_version(source)
        digest = manifest.digest(version / manifest.FILE)
        served, before = self._content
        if cached and version.name == served and digest != before:
            raise RepositoryError(
                f"version {served} was changed in place, and the response cache would go on giving its old answers. "
                "Put the new one into a folder of the next number, or start anew."
            )
        settings = self._settings
        generation = self._workspace.render(
            source, self._parameters, settings.instance_count, cached, settings.queue_delay
        )
        self._rendered = version.name, digest
        return generation

    def _place(self, generation: str) -> None:
        self._workspace.place(generation)
        self._placed = generation

    def _start(self) -> Answer | None:
        """Start tritonserver and return its first real answer, or None when told to stop meanwhile."""
        self._triton = Triton(self._settings, self._workspace, self.log)
        self._triton.start()
        self._pauses.began()
        deadline = time.monotonic() + _LOAD_SECONDS
        problem, refused = "no answer yet", 0
        while not self._stopping:
            if fault := self._fault():
                raise TritonError(f"{fault}: {self._triton.reason()}\nTriton's log: {self.log}")
            try:
                answer = self._triton.infer(ARTICLE, TIMEOUT)
            except Refusal as error:  # Triton listens only when the model is loaded
                refused += 1
                if refused == _PROBES_FAILED:
                    raise TritonError(
                        f"the model was loaded, but refuses a real request: {error}\nTriton's log: {self.log}"
                    ) from error
            except TritonError as error:
                problem = str(error)
            else:
                self._stubs, self._retired = self._triton.stubs(), {}
                self._pulse = Pulse(self._settings.local_host, self._settings.http_port, "/v2/health/live")
                self._serve()
                return answer
            if time.monotonic() > deadline:
                raise TritonError(f"no answer within {_LOAD_SECONDS:.0f} s: {problem}\nTriton's log: {self.log}")
            self._tick()
        self._triton.kill()  # nobody's request is lost, and Triton would first load to the end
        return None

    def _serve(self) -> None:
        """Note that what was placed last answers."""
        self._workspace.prove(self._placed)
        self._probes.forget()
        self._unloaded, self._content = False, self._rendered
        self._settle()

    def _tick(self) -> None:
        """Let a moment pass in which the rest is watched."""
        time.sleep(_TICK_SECONDS)
        if self._opened and not self._stopping and self._gateway and (happened := self._gateway.watch()):
            self._say(happened)
        self._end_retired()
        self._triton.trim_log()

    def _fault(self) -> str:
        """Return what is wrong with tritonserver itself, or ""."""
        if not self._triton.running:
            return f"tritonserver died (code {self._triton.exit_code})"
        if self._triton.stopped:
            return "tritonserver was stopped by a signal"
        return "tritonserver answers nothing any more" if self._pulse and self._pulse.lost else ""

    def _watch(self) -> None:
        next_probe = time.monotonic() + _PROBE_SECONDS
        while not self._stopping:
            self._tick()
            if self._stopping:
                return
            for fault in hung.end(self._stubs, self._workspace.heartbeats):
                self._say(fault)  # what died is healed
            if fault := self._fault():
                self._restart(fault)
            elif lost := {stub for stub in self._stubs if not stub.working}:
                ids = ", ".join(str(stub.pid) for stub in lost)
                self._heal(f"backend process {ids} died")
            elif not self._unloaded and len(self._stubs) < self._settings.instance_count:
                self._heal("a backend process died as soon as it was loaded")
            elif self._wanted:
                self._grant()
            elif time.monotonic() >= next_probe and not self._unloaded:
                self._probe()
                next_probe = time.monotonic() + _PROBE_SECONDS

    def _probe(self) -> None:
        probes = self._probes
        probes.ask(self._triton, self._stubs)
        if self._stopping or self._fault():
            return
        if probes.failed == _PROBES_FAILED:
            self._heal(f"{_PROBES_FAILED} real requests in a row failed: {probes.problem}")
        elif probes.failed >= 2 * _PROBES_FAILED:
            self._restart(f"real requests still fail: {probes.problem}")

    def _heal(self, what: str) -> None:
        """Start a fresh generation of backend processes beside what is left of this one, then end this one."""
        began = time.monotonic()
        self._say(f"{what}; starting fresh ones")
        self._record(unready=what)
        for stub in self._stubs:
            if stub.held:
                stub.kill()  # one that was stopped and went on later would take the server down
        if self._renew():
            self._say(f"healed in {time.monotonic() - began:.1f} s")

    def _renew(self) -> bool:
        """Load the proven generation once more, else restart. Returns whether the load did."""
        try:
            self._load(self._workspace.renew())
        except (TritonError, OSError) as error:
            if not self._stopping:
                self._restart(f"fresh ones did not start: {error}")
            return False
        self._record()
        return True

    def _grant(self) -> None:
        wanted, self._wanted, self._asked = self._wanted, 0, 1
        if wanted == signal.SIGUSR1:
            self._reload()
        else:
            self._unload()

    def _reload(self) -> None:
        """Load the model repository anew, under load; where the new version fails, the old one goes on."""
        self._say(f"loading {self._settings.model_repository / MODEL} anew")
        before = self._rendered
        try:
            generation = self._render()
        except (ServerError, OSError) as error:
            self._refuse(error)
            return
        try:
            self._load(generation)
        except Refusal as error:
            self._rendered = before
            self._refuse(error)
            if self._unloaded:
                self._workspace.empty()
            else:
                self._renew()  # Triton would try the refused one again and again
        except (TritonError, OSError) as error:
            self._rendered = before
            if not self._stopping:
                self._restart(f"the load was cut off: {error}")
        else:
            self._serve()
            self._say("loaded")

    def _unload(self) -> None:
        """Take the model out of service until the next load. Its backend processes end when they have answered."""
        self._workspace.empty()
        self._unloaded, self._stubs = True, set()
        while not self._stopping and not self._fault() and self._triton.generation(_LOOK_TIMEOUT):
            self._tick()
        self._settle()
        self._say("unloaded")

    def _settle(self, refused: str = "") -> None:
        """Record how what was asked for came out."""
        self._loads, self._asked = self._loads + self._asked, 0
        self._record(refused)

    def _record(self, refused: str = "", unready: str = "") -> None:
        unready = unready or (_UNLOADED if self._unloaded else "")
        with contextlib.suppress(OSError):  # a full disk: others learn it later
            self._workspace.record(Served(self._content[0], self._loads, refused, unready))

    def _refuse(self, error: Exception) -> None:
        self._settle(str(error))
        self._say(f"not loaded, the version before goes on: {error}")

    def _load(self, generation: str) -> None:
        """Have Triton load a generation; the one before answers until it can. Raises Refusal where Triton refuses it,
        TritonError where Triton itself is at fault.
        """
        before = self._triton.stubs() | self._stubs
        logged = self._triton.log_size()
        self._place(generation)
        deadline = time.monotonic() + _LOAD_SECONDS
        while self._triton.generation(_LOOK_TIMEOUT) != generation:
            if reason := self._triton.failed_load(logged):
                raise Refusal(_FAILED, reason)
            if fault := self._fault():
                raise TritonError(fault)
            if self._stopping or time.monotonic() > deadline:
                raise TritonError(f"not loaded within {_LOAD_SECONDS:.0f} s")
            self._tick()
        self._workspace.prove(generation)
        self._probes.forget()
        since = time.monotonic()
        self._retired |= dict.fromkeys(self._stubs, since)
        self._stubs = self._triton.stubs() - before

    def _end_retired(self) -> None:
        """End what Triton never unloads: the generation of a backend process that died under a request."""
        allowed = _UNLOAD_SECONDS + _UNLOAD_SECONDS_EACH * self._settings.instance_count
        for stub, since in list(self._retired.items()):
            if time.monotonic() > since + allowed:
                stub.kill()
            if not stub.alive:
                del self._retired[stub]

    def _restart(self, what: str) -> None:
        """Start tritonserver anew, again and again, with what served last or what is to be loaded meanwhile."""
        began = time.monotonic()
        while not self._stopping:
            pause = self._pauses.next()
            self._say(f"{what}; restarting it" + (f" in {pause:.0f} s" if pause >= 1 else ""))
            self._record(unready=what)
            self._end_pulse()
            self._triton.kill()
            self._triton.wait()
            self._rest(pause)
            try:
                self._choose()
                if self._unloaded:
                    self._triton = Triton(self._settings, self._workspace, self.log)
                    self._triton.start()
                    self._settle()
                    return
                if self._start():
                    self._say(f"restarted in {time.monotonic() - began:.1f} s")
                    return
            except (ServerError, OSError) as error:
                what = f"tritonserver did not start: {error}"
                if self._asked:
                    self._refuse(error)

    def _rest(self, pause: float) -> None:
        """Wait before a start: a pause, then for the ports. A wish ends the pause."""
        until, told = time.monotonic() + pause, False
        while not self._stopping and not self._wanted and time.monotonic() < until:
            self._tick()
        while not self._stopping and (port := self._triton.taken_port()):
            if not told:
                self._say(f"port {port} is taken by another process; waiting for it")
                self._record(unready=f"port {port} is taken by another process")
                told = True
            self._tick()

    def _choose(self) -> None:
        """Have the repository hold what is to serve next: what is wished for, else what served last."""
        wanted, self._wanted = self._wanted, 0
        self._asked |= bool(wanted)
        self._rendered = self._content
        if wanted == signal.SIGUSR1:
            self._place(self._render())
            self._unloaded = False
        elif wanted or self._unloaded:
            self._workspace.empty()
            self._unloaded = True
        else:
            self._placed = self._workspace.restore()

    def _end_pulse(self) -> None:
        if self._pulse:
            self._pulse.stop()
        self._pulse = None


_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FAILED = 500
_UNLOADED = "the model is unloaded, until it is loaded again"

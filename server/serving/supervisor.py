"""Start tritonserver, prove it with a real request, and keep it answering: what dies is healed, and said so."""

import secrets
import signal
import time
from collections import deque
from collections.abc import Callable

from newsdesk.server.gateway.process import Gateway
from newsdesk.server.gateway.settings import Launch
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.errors import ServerError
from newsdesk.server.serving import workspace
from newsdesk.server.serving.processes import Process
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.triton import Answer, Refusal, Triton, TritonError, find_installation
from newsdesk.server.serving.workspace import MODEL, RepositoryError, Served, Workspace

ARTICLE = "Wall Street bears claw back into the black"
_TICK_SECONDS = 0.2
_PROBE_SECONDS = 1.0
_PROBE_TIMEOUT = 5.0
_PROBES_FAILED = 3
_COMPUTES = 0.02
"""The share of its time that a busy backend process computes at least, on a machine full of other work; one that hangs
computes nothing."""
_COMPUTING_SECONDS = 600.0
"""How long all of them may compute without an answer: 64 articles of 256 KiB are a batch, and take minutes."""
_LOAD_SECONDS = 300.0
_UNLOAD_SECONDS, _UNLOAD_SECONDS_EACH = 15.0, 2.0
_RESTARTS = 5
_RESTARTS_WITHIN = 120.0


class Supervisor:
    """One server for as long as it is wanted. Use it from the main thread: it handles SIGINT, SIGTERM and SIGHUP (stop
    when the requests at hand are answered; at the second, at once; a SIGHUP that is ignored at the start stays so) and
    SIGUSR1 (load the model repository anew).
    """

    def __init__(self, settings: Settings, target: str, say: Callable[[str], None]) -> None:
        self._settings, self._say = settings, say
        self._parameters = {"target": target, "threads": str(settings.threads or 1)}
        if settings.unsure_share is not None:
            self._parameters["unsure_share"] = str(settings.unsure_share)
        self._workspace = Workspace(settings.state)
        self.log = settings.state / "log" / f"tritonserver-{settings.http_port}.log"
        self._token = secrets.token_hex(16)
        self._triton = Triton(settings, self._workspace, self.log, self._token)
        self._gateway = self._beside() if settings.gateway else None
        self._stubs: set[Process] = set()
        self._retired: dict[Process, float] = {}
        self._stop_signals = 0
        self._reload_wanted = False
        self._content = self._rendered = "", ""
        self._loads = 0
        self._probes = self._probes_failed = 0
        self._answered = -1
        self._computing = 0.0
        self._restarts: deque[float] = deque(maxlen=_RESTARTS)

    def run(self, ready: Callable[[Answer], None]) -> None:
        """Serve until a signal: start, call `ready` with the first answer, watch, stop, clean up.

        Raises ServerError, with the reason, where the server does not start or does not stay up.
        """
        for dead in workspace.remove_dead(self._settings.state):
            self._say(f"removed what a killed server left behind ({dead})")
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup
        stops = [number for number in _STOP if not (ignored and number == signal.SIGHUP)]
        handlers = {number: signal.signal(number, self._on_stop) for number in stops}
        handlers[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._on_reload)
        try:
            here = find_installation()
            self._workspace.lay_out(here.backend, here.caches, here.stub)
            self._render()
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

    def _on_reload(self, *_: object) -> None:
        self._reload_wanted = True

    def _beside(self) -> Gateway:
        settings = self._settings
        assert settings.gateway is not None
        launch = Launch(
            settings=settings.gateway,
            grpc_url=f"grpc://{settings.netloc(settings.grpc_port)}",
            http_url=f"http://{settings.netloc(settings.http_port)}",
            repository=self._workspace.repository,
            source=settings.model_repository,
            state=settings.state,
            audit_log=settings.state / "log" / "audit.jsonl",
            instances=settings.instance_count,
            token=self._token,
        )
        return Gateway(launch, settings.state / "log" / f"gateway-{settings.gateway.port}.log")

    def _open(self) -> None:
        """Start the gateway and wait until it listens. Raises GatewayError."""
        if self._gateway:
            self._gateway.start()
            while not self._stopping and not self._gateway.live():
                time.sleep(_TICK_SECONDS)

    def _render(self) -> None:
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
        self._rendered = version.name, digest
        settings = self._settings
        self._workspace.render(source, self._parameters, settings.instance_count, cached, settings.queue_delay)

    def _start(self) -> Answer | None:
        """Start tritonserver and return its first real answer, or None when told to stop meanwhile."""
        self._triton = Triton(self._settings, self._workspace, self.log, self._token)
        self._triton.start()
        deadline = time.monotonic() + _LOAD_SECONDS
        problem, refused = "no answer yet", 0
        while not self._stopping:
            if not self._triton.running:
                raise TritonError(
                    f"tritonserver ended with code {self._triton.exit_code}: {self._triton.reason()}\n"
                    f"Triton's log: {self.log}"
                )
            try:
                answer = self._triton.infer(ARTICLE, _PROBE_TIMEOUT)
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
                self._probes_failed, self._answered = 0, -1
                self._record()
                return answer
            if time.monotonic() > deadline:
                raise TritonError(f"no answer within {_LOAD_SECONDS:.0f} s: {problem}\nTriton's log: {self.log}")
            time.sleep(_TICK_SECONDS)
        self._triton.kill()  # nobody's request is lost, and Triton would first load to the end
        return None

    def _watch(self) -> None:
        next_probe = time.monotonic() + _PROBE_SECONDS
        while not self._stopping:
            time.sleep(_TICK_SECONDS)
            if self._stopping:
                return
            if not self._triton.running:
                self._restart(f"tritonserver died (code {self._triton.exit_code})")
            elif lost := {stub for stub in self._stubs if not stub.working}:
                ids = ", ".join(str(stub.pid) for stub in lost)
                self._heal(f"backend process {ids} died")
            elif self._reload_wanted:
                self._reload()
            elif time.monotonic() >= next_probe:
                self._probe()
                next_probe = time.monotonic() + _PROBE_SECONDS
            if self._gateway and (happened := self._gateway.watch()):
                self._say(happened)
            self._end_retired()
            self._triton.trim_log()

    def _probe(self) -> None:
        self._probes += 1
        computed = {stub: stub.cpu_seconds for stub in self._stubs}
        try:
            self._triton.infer(ARTICLE + _mark(self._probes), _PROBE_TIMEOUT)
            self._probes_failed, self._computing = 0, 0.0
            return
        except Refusal as error:
            if error.status == _OVERLOADED:
                return
            problem = str(error)
        except TritonError as error:
            if self._busy() or self._compute(computed):
                return
            problem = str(error)
        self._probes_failed += 1
        if self._probes_failed == _PROBES_FAILED and not self._stopping:
            self._heal(f"{_PROBES_FAILED} real requests in a row failed: {problem}")
        elif self._probes_failed >= 2 * _PROBES_FAILED and not self._stopping:
            self._restart(f"real requests still fail: {problem}")

    def _busy(self) -> bool:
        """Whether others were answered since the last look: then a late answer is a long queue, and no fault."""
        try:
            before, self._answered = self._answered, self._triton.answered(_PROBE_TIMEOUT)
        except TritonError:
            return False
        if answered := 0 <= before < self._answered:
            self._computing = 0.0
        return answered

    def _compute(self, before: dict[Process, float]) -> bool:
        """Whether every backend process computed during the probe: on long articles then, and it is no fault."""
        if not before or any(one.cpu_seconds - seconds < _COMPUTES * _PROBE_TIMEOUT for one, seconds in before.items()):
            return False
        self._computing += _PROBE_TIMEOUT
        return self._computing <= _COMPUTING_SECONDS

    def _heal(self, what: str) -> None:
        """Start a fresh generation of backend processes beside what is left of this one, then end this one."""
        began = time.monotonic()
        self._say(f"{what}; starting fresh ones")
        for stub in self._stubs:
            if stub.held:
                stub.kill()  # one that was stopped and went on later would take the server down
        self._workspace.renew()
        try:
            self._load()
        except TritonError as error:
            if not self._stopping:
                self._restart(f"fresh ones did not start: {error}")
            return
        self._say(f"healed in {time.monotonic() - began:.1f} s")

    def _reload(self) -> None:
        """Load the model repository anew, under load; where the new version fails, the old one goes on."""
        self._reload_wanted = False
        self._loads += 1
        self._say(f"loading {self._settings.model_repository / MODEL} anew")
        try:
            self._render()
        except (ServerError, OSError) as error:
            self._refuse(error)
            return
        try:
            self._load()
        except Refusal as error:
            self._workspace.restore()
            self._refuse(error)
        except TritonError as error:
            self._workspace.restore()
            if not self._stopping:
                self._restart(f"the load was cut off: {error}")
        else:
            self._record()
            self._say("loaded")

    def _record(self, refused: str = "") -> None:
        if not refused:
            self._content = self._rendered
        self._workspace.record(Served(self._content[0], self._loads, refused))

    def _refuse(self, error: Exception) -> None:
        self._record(str(error))
        self._say(f"not loaded, the version before goes on: {error}")

    def _load(self) -> None:
        before = self._triton.stubs() | self._stubs
        self._triton.load(_LOAD_SECONDS)
        self._probes_failed = 0
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
        now = time.monotonic()
        if len(self._restarts) == _RESTARTS and now - self._restarts[0] < _RESTARTS_WITHIN:
            raise TritonError(
                f"{what}, {_RESTARTS} restarts within {_RESTARTS_WITHIN:.0f} s did not help: {self._triton.reason()}\n"
                f"Triton's log: {self.log}"
            )
        self._restarts.append(now)
        self._say(f"{what}; restarting it")
        self._triton.kill()
        self._triton.wait()
        if not self._stopping and self._start():
            self._say(f"restarted in {time.monotonic() - now:.1f} s")


def _mark(number: int) -> str:
    """Return white space, which no member reads, different for each number: no cache may answer for a backend."""
    return f"{number:b}".replace("0", " ").replace("1", "\t")


_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OVERLOADED = 503

"""Start tritonserver, prove it with real requests, and keep it answering: what dies is healed, and said so."""

import contextlib
import signal
import time
from collections.abc import Callable, Sequence

from newsdesk.server.machine.servers import LOAD, UNLOAD
from newsdesk.server.runtime.errors import ServerError
from newsdesk.server.serving import gateway, graphs, privacy, workspace
from newsdesk.server.serving.candidates import CandidateKeeper
from newsdesk.server.serving.deployment import Deployment
from newsdesk.server.serving.keeper import LOAD_SECONDS, PROBES_FAILED, Broken, Keeper
from newsdesk.server.serving.pauses import Pauses
from newsdesk.server.serving.probes import EXAMPLE, TIMEOUT
from newsdesk.server.serving.pulse import Pulse
from newsdesk.server.serving.settings import Settings
from newsdesk.server.serving.triton import ProbeAnswer, Triton, TritonError, TritonRefusal, find_installation
from newsdesk.server.serving.workspace import Workspace

_TICK_SECONDS = 0.2


class Supervisor:
    """One server for as long as it is wanted. Use it from the main thread: it handles signals.

    SIGINT, SIGTERM and SIGHUP stop it when the requests at hand are answered; at the second, at once; a SIGHUP that is
    ignored at the start stays so. SIGUSR1 loads every model anew from the model repository, SIGUSR2 unloads every model
    until then. For one model the same is asked for by a file in the server's directory (see `servers.wish`).

    Once it has served, it never gives up: what does not start is started again, after pauses that grow.
    """

    def __init__(
        self,
        settings: Settings,
        deployments: Sequence[Deployment],
        say: Callable[[str], None],
        candidates: Sequence[Deployment] = (),
    ) -> None:
        """`candidates` run beside the current versions, which `deployments` are."""
        self._settings, self._print = settings, say
        self._workspace = Workspace(settings.state)
        self.log = settings.state / "log" / f"tritonserver-{settings.http_port}.log"
        self._triton = Triton(settings, self._workspace, self.log)
        self._pulse: Pulse | None = None
        self._gateway = gateway.beside(settings, deployments, candidates, self._workspace) if settings.gateway else None
        self._opened = False
        self._stop_signals = 0
        self._signalled = ""
        """The change that a signal asks for, of all models: LOAD or UNLOAD."""
        self._pauses = Pauses()
        several = len(deployments) + len(candidates) > 1
        self._keepers: list[Keeper] = [
            Keeper(
                deployment,
                settings,
                self._workspace,
                self._teller(deployment.model if several else ""),
                self._ending,
            )
            for deployment in deployments
        ]
        current = {keeper.deployment.folder: keeper for keeper in self._keepers}
        self._keepers += [
            CandidateKeeper(
                deployment,
                settings,
                self._workspace,
                self._teller(deployment.model),
                self._ending,
                current[deployment.folder],
            )
            for deployment in candidates
        ]

    def run(self, ready: Callable[[dict[str, ProbeAnswer]], None]) -> None:
        """Serve until a signal: start, call `ready` with each model's first answer, watch, stop, clean up.

        Args:
            ready: is given the answers, model → answer

        Raises:
            ServerError: the server does not start, with the reason.
        """
        for dead in workspace.remove_dead(self._settings.state):
            self._say(f"removed what a killed server left behind ({dead})")
        graphs.remove_unnamed(self._settings.state, self._settings.model_repository)
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup
        stops = [number for number in _STOP if not (ignored and number == signal.SIGHUP)]
        handlers = {number: signal.signal(number, self._on_stop) for number in stops}
        handlers |= {number: signal.signal(number, self._on_wish) for number in (signal.SIGUSR1, signal.SIGUSR2)}
        privacy.close(self._settings.state)
        try:
            here = find_installation()
            self._workspace.lay_out(here.backend, here.caches, here.stub)
            for keeper in self._keepers:
                keeper.place()
            answers = self._start()
            if answers:
                self._open()
            if answers and not self._stopping:
                ready(answers)
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

    def _ending(self) -> bool:
        return self._stopping or bool(self._fault())

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
        self._signalled = LOAD if number == signal.SIGUSR1 else UNLOAD

    def _take_wishes(self) -> bool:
        """Hand what is asked for to the keepers of the models. Returns whether one has something to do."""
        all_models, self._signalled = self._signalled, ""
        wishes = self._workspace.take_wishes()
        for keeper in self._keepers:
            keeper.wanted = wishes.get(keeper.model) or all_models or keeper.wanted
        return any(keeper.wanted for keeper in self._keepers)

    def _say(self, what: str) -> None:
        with contextlib.suppress(OSError):  # a full disk, or nobody who reads
            self._print(what)

    def _teller(self, model: str) -> Callable[[str], None]:
        """Return what says something of a model, with its name before it where there is one."""
        return lambda what: self._say(f"{model}: {what}" if model else what)

    def _open(self) -> None:
        """Start the gateway and wait until it listens. Raises GatewayError."""
        if self._gateway:
            self._gateway.start()
            while not self._stopping and not self._gateway.live():
                time.sleep(_TICK_SECONDS)
            self._opened = True

    def _start(self) -> dict[str, ProbeAnswer] | None:
        """Start tritonserver and return each model's first real answer, or None when told to stop meanwhile."""
        self._triton = Triton(self._settings, self._workspace, self.log)
        self._triton.start()
        for keeper in self._keepers:
            keeper.began(self._triton)
        answers = self._first_answers()
        if self._stopping:
            self._triton.kill()  # nobody's request is lost, and Triton would first load to the end
            return None
        self._pauses.works()
        self._pulse = Pulse(self._settings.local_host, self._settings.http_port, "/v2/health/live")
        for keeper in self._keepers:
            if keeper.unloaded:
                keeper.settle()
            else:
                keeper.proved()
        return answers

    def _first_answers(self) -> dict[str, ProbeAnswer]:
        """Ask each model that is loaded until it answers; return fewer answers when told to stop meanwhile.

        Raises:
            TritonError: tritonserver died, or a model refuses or gives no answer in LOAD_SECONDS.
        """
        deadline = time.monotonic() + LOAD_SECONDS
        answers: dict[str, ProbeAnswer] = {}
        waiting = [keeper for keeper in self._keepers if not keeper.unloaded]
        problem, refused = "no answer yet", 0
        while waiting and not self._stopping:
            if fault := self._fault():
                raise TritonError(f"{fault}: {self._triton.reason()}\nTriton's log: {self.log}")
            keeper = waiting[0]
            assert keeper.endpoint is not None
            try:
                answers[keeper.model] = keeper.endpoint.infer(EXAMPLE, TIMEOUT)
            except TritonRefusal as error:  # Triton listens only when the models are loaded
                refused += 1
                if refused == PROBES_FAILED:
                    raise TritonError(
                        f"the model {keeper.model} was loaded, but refuses a real request: {error}\n"
                        f"Triton's log: {self.log}"
                    ) from error
            except TritonError as error:
                problem = str(error)
            else:
                waiting.remove(keeper)
                continue
            if time.monotonic() > deadline:
                raise TritonError(f"no answer within {LOAD_SECONDS:.0f} s: {problem}\nTriton's log: {self.log}")
            self._tick()
        return answers

    def _tick(self) -> None:
        """Let a moment pass in which the rest is watched."""
        time.sleep(_TICK_SECONDS)
        if self._opened and not self._stopping and self._gateway and (happened := self._gateway.watch()):
            self._say(happened)
        self._triton.trim_log()

    def _fault(self) -> str:
        """Return what is wrong with tritonserver itself, or ""."""
        if not self._triton.running:
            return f"tritonserver died (code {self._triton.exit_code})"
        if self._triton.stopped:
            return "tritonserver was stopped by a signal"
        return "tritonserver answers nothing any more" if self._pulse and self._pulse.lost else ""

    def _watch(self) -> None:
        while not self._stopping:
            self._tick()
            self._take_wishes()
            for keeper in self._keepers:
                if self._stopping:
                    return
                if fault := self._fault():
                    self._restart(fault)
                    break
                try:
                    keeper.step()
                except Broken as error:
                    if not self._stopping:
                        self._restart(str(error))
                    break

    def _restart(self, what: str) -> None:
        """Start tritonserver anew, again and again, with what served last or what is to be loaded meanwhile."""
        began = time.monotonic()
        for keeper in self._keepers:
            keeper.halt()
        while not self._stopping:
            pause = self._pauses.next()
            self._say(f"{what}; restarting it" + (f" in {pause:.0f} s" if pause >= 1 else ""))
            self._record(what)
            self._end_pulse()
            self._triton.kill()
            self._triton.wait()
            self._rest(pause)
            try:
                self._take_wishes()
                for keeper in self._keepers:
                    keeper.choose()
                if self._start() is not None:
                    self._say(f"restarted in {time.monotonic() - began:.1f} s")
                    return
            except (ServerError, OSError) as error:
                what = f"tritonserver did not start: {error}"
                for keeper in self._keepers:
                    keeper.refuse_asked(error)

    def _record(self, unready: str) -> None:
        for keeper in self._keepers:
            keeper.record(unready=unready)

    def _rest(self, pause: float) -> None:
        """Wait before a start: a pause, then for the ports. A wish ends the pause."""
        until, told = time.monotonic() + pause, False
        while not self._stopping and not self._take_wishes() and time.monotonic() < until:
            self._tick()
        while not self._stopping and (port := self._triton.taken_port()):
            if not told:
                self._say(f"port {port} is taken by another process; waiting for it")
                self._record(f"port {port} is taken by another process")
                told = True
            self._tick()

    def _end_pulse(self) -> None:
        if self._pulse:
            self._pulse.stop()
        self._pulse = None


_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

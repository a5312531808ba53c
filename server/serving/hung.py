"""Backend processes that hang: Triton waits for them for ever, and where others answer, real requests pass them by."""

from collections.abc import Collection, Iterator
from pathlib import Path

from newsdesk.server.machine.processes import Process
from newsdesk.server.runtime import heartbeat
from newsdesk.server.runtime.heartbeat import Heartbeat

LOOK_SECONDS = 8.0
_LIVELY_SECONDS = 3.0


def end(stubs: Collection[Process], folder: Path) -> Iterator[str]:
    """End those that make no step for longer than a step may take, or show nothing at all.

    Where no process has looked of late the machine is at fault, which is full of other work or has slept.

    Args:
        stubs: backend processes
        folder: of their heartbeats

    Yields:
        The fault of each that is ended.
    """
    beats = {stub: beat for stub in stubs if (beat := heartbeat.read(folder, stub.pid))}
    if any(beat.look < _LIVELY_SECONDS for beat in beats.values()):
        for stub, beat in beats.items():
            if fault := _fault(beat):
                stub.kill()
                yield f"backend process {stub.pid} {fault}; it is ended"


def _fault(beat: Heartbeat) -> str:
    if beat.step is not None and beat.step > beat.bound:
        return f"hangs: no step of its work for {beat.step:.0f} s"
    return f"hangs: it shows nothing for {beat.look:.0f} s" if beat.look > LOOK_SECONDS else ""

"""The servers that run on this machine, by their run directories: owner, state, and wishes to load or unload."""

import contextlib
import os
import re
import secrets
from pathlib import Path

import msgspec
from msgspec import Struct

from newsdesk.server.machine import processes

LOAD, UNLOAD = "load", "unload"
"""The wishes that a running server takes for a model."""
SERVED = "served.json"
# Process ids mean nothing in another container, which may share /dev/shm with this one.
_NAME = re.compile(r"newsdesk-(?P<namespace>[0-9a-f]+)-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{4}")


class Served(Struct, frozen=True):
    """The state of a model of a running server.

    Attributes:
        version: the number of the version that it serves
        loads: how often it was told to load or unload the model
        refused: why the last of that was refused
        unready: why the model is not ready
    """

    version: str
    loads: int = 0
    refused: str = ""
    unready: str = ""
    unloaded: bool = False
    """Whether it was taken out of service on demand."""
    outcome: str = ""
    """The outcome of a candidate: that it was promoted, or why it was withdrawn; "" while it is tried."""


def read_served(root: Path) -> dict[str, Served]:
    """Return what the server with this directory last said of its models; nothing where it has only begun to start."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((root / SERVED).read_bytes(), type=dict[str, Served])
    return {}


def running(state: Path) -> list[tuple[processes.Process, Path, dict[str, Served]]]:
    """Return the living servers with this state folder, their directories, and what each last said that it serves."""
    servers = []
    for owner, name in owners(state / "run"):
        root = state / "run" / name
        if owner.alive and (served := read_served(root)):
            servers.append((owner, root, served))
    return servers


def wish(root: Path, model: str, action: str) -> None:
    """Ask the server with this directory to LOAD or UNLOAD a model."""
    partial = root / "wishes" / f".{model}.{os.getpid()}.{secrets.token_hex(4)}"
    partial.write_text(action, encoding="utf-8")
    partial.replace(root / "wishes" / model)


def owners(folder: Path) -> list[tuple[processes.Process, str]]:
    """Return this namespace's processes that own a newsdesk entry in a folder, and the entries' common names."""
    names = [_NAME.match(entry.name) for entry in folder.iterdir()] if folder.is_dir() else []
    return [
        (processes.Process(int(name["pid"]), int(name["start"])), name[0])
        for name in names
        if name and int(name["namespace"], 16) == processes.pid_namespace()
    ]

"""Servers that run the stand-in model on free ports."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.launching import Server, write_repository


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("models"))


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers that end with the test."""
    servers: list[Server] = []

    def start(repository: Path, **options: Any) -> Server:
        servers.append(Server(repository, tmp_path / f"state{len(servers)}", **options).start())
        return servers[-1]

    yield start
    for server in servers:
        server.dismiss()


@pytest.fixture(scope="session")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that leave it as it was."""
    shared = Server(repository, tmp_path_factory.mktemp("serving") / "state").start()
    shared.until("Ctrl-C stops it")
    yield shared
    shared.dismiss()

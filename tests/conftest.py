"""Settings of the whole suite."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import threads

threads.bound()  # before anything imports NumPy

from tests import launching  # noqa: E402
from tests.holding import Hold  # noqa: E402

# Gateways of tests that run at once would all take the one default port of gRPC; a test of gRPC names its own.
os.environ.setdefault("NEWSDESK_GATEWAY_GRPC_PORT", "0")

# Two shared cores: a slow example is no fault.
hypothesis.settings.register_profile("shared-machine", deadline=None, max_examples=60)
# Under mutation the first failure is enough: nobody reads a smaller example.
phases = [hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate]
hypothesis.settings.register_profile("mutation", deadline=None, max_examples=60, phases=phases)
hypothesis.settings.load_profile("shared-machine")


def pytest_sessionfinish() -> None:
    launching.end_dismissed()


FIRST = "server/gateway", "service", "server", "clients"
"""The longest groups. What ends last should be short."""


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pytest-xdist run a folder as a whole in one process, since its tests share a server; of the build, a file.

    The longest go first; the build's tests fill up whichever process is done.
    """
    groups = {item: group_of(item.path.relative_to(Path(__file__).parent).parts) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: place_of(groups[item]))


def group_of(parts: tuple[str, ...]) -> str:
    if parts[0] == "build":
        return "/".join(parts)
    return "server/gateway" if parts[:2] == ("server", "gateway") else parts[0]


def place_of(group: str) -> int:
    if group.startswith("build/"):
        return len(FIRST) + 1
    return FIRST.index(group) if group in FIRST else len(FIRST)


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Hold]:
    """Keeps a backend process of the stand-in busy until the test releases it, or ends."""
    (tmp_path / "hold").mkdir()
    holding = Hold(tmp_path / "hold")
    yield holding
    holding.release()

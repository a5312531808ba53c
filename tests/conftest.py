"""Settings of the whole suite."""

import os
from pathlib import Path

import hypothesis
import pytest

from tests import threads

threads.bound()  # before anything imports NumPy

# Gateways of tests that run at once would all take the one default port of gRPC; a test of gRPC names its own.
os.environ.setdefault("NEWSDESK_GATEWAY_GRPC_PORT", "0")

# Two shared cores: a slow example is no fault.
hypothesis.settings.register_profile("shared-machine", deadline=None, max_examples=60)
# Under mutation the first failure is enough: nobody reads a smaller example.
phases = [hypothesis.Phase.explicit, hypothesis.Phase.reuse, hypothesis.Phase.generate]
hypothesis.settings.register_profile("mutation", deadline=None, max_examples=60, phases=phases)
hypothesis.settings.load_profile("shared-machine")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pytest-xdist run a folder as a whole in one process, since its tests share a server; of the build, a file.

    What serves goes first, the longest of it ahead; the build's tests fill up whichever process is done.
    """
    tests = Path(__file__).parent
    of = {item: item.path.relative_to(tests).parts for item in items}
    for item, parts in of.items():
        item.add_marker(pytest.mark.xdist_group("/".join(parts) if parts[0] == "build" else parts[0]))
    items.sort(key=lambda item: (of[item][0] == "build", of[item][0] != "service"))

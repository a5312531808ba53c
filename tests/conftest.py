"""Settings of the whole suite."""

from pathlib import Path

import hypothesis
import pytest

# Two shared cores: a slow example is no fault.
hypothesis.settings.register_profile("shared-machine", deadline=None, max_examples=60)
hypothesis.settings.load_profile("shared-machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make two halves of the tests, which pytest-xdist runs side by side: those of the build, and those that serve."""
    of_build = Path(__file__).parent / "build"
    for item in items:
        item.add_marker(pytest.mark.xdist_group("build" if of_build in item.path.parents else "serving"))

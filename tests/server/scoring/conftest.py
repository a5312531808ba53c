"""A tiny model, which the tests score with."""

from pathlib import Path

import pytest

from newsdesk.server.scoring import chunks
from newsdesk.server.scoring.answers import ScoringModel
from tests import tiny
from tests.server.scoring import jobs


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "ROWS", jobs.CHUNK)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three members, the last of which fails on some texts."""
    return tiny.write_model(tmp_path_factory.mktemp("models"), tiny.write_cascade)


@pytest.fixture(scope="session")
def model(repository: Path) -> ScoringModel:
    return ScoringModel(repository / "ag_news" / "1", "onnxruntime:fp32")

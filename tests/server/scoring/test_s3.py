"""Scoring from and to S3: a real s3fs, and moto's server, which speaks the protocol."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
from moto.server import ThreadedMotoServer

from newsdesk.server.scoring.answers import ScoringModel
from tests.server.scoring import jobs
from tests.server.scoring.jobs import Ended, read, score, write


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the file system with a bucket `news` in it, named by variables as a user would."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.mkdir("news")
    yield system
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_a_folder_of_a_bucket_becomes_another(bucket: Any, model: ScoringModel, tmp_path: Path) -> None:
    """The run is ended, and goes on with the parts that it has left there."""
    for name in "a.csv", "deep/b.parquet":
        bucket.put_file(str(write(tmp_path / name)), f"news/in/{name}")
        score(tmp_path / name, tmp_path / f"scored-{Path(name).name}", model)
    with pytest.raises(Ended):
        score("s3://news/in", "s3://news/out", model, 3)
    assert len([name for name in bucket.ls("news/out.parts", refresh=True) if name.endswith(".part")]) == 3
    assert not bucket.exists("news/out")
    outcome = score("s3://news/in", "s3://news/out", model)
    assert (outcome.rows, outcome.scored) == (2 * jobs.ROWS, 2 * jobs.ROWS - 3 * jobs.CHUNK)
    bucket.invalidate_cache()
    assert sorted(bucket.find("news/out")) == ["news/out/a.csv", "news/out/deep/b.parquet"]
    assert not bucket.exists("news/out.parts")
    for name in "a.csv", "deep/b.parquet":
        assert bucket.cat_file(f"news/out/{name}") == (tmp_path / f"scored-{Path(name).name}").read_bytes()
    assert len(read("news/out/deep/b.parquet", functools.partial(bucket.open))) == jobs.ROWS

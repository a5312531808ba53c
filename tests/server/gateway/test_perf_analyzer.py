"""NVIDIA's perf_analyzer, unchanged, against the gateway's ports with a key."""

import subprocess
from pathlib import Path

import pytest

from benchmarks import perf_analyzer
from tests.server.gateway import rpcs

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.long  # its first run downloads 16 MB


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_perf_analyzer_measures_the_gateway_with_a_key(protocol: str, front: rpcs.Front) -> None:
    address = front.address if protocol == "grpc" else str(front.http.base_url).removeprefix("http://").rstrip("/")
    command = [*perf_analyzer.install(ROOT / perf_analyzer.FOLDER), "-m", "ag_news", "-i", protocol, "-u", address]
    command += ["--input-data", str(ROOT / "benchmarks" / "perf_analyzer.json"), "--request-count", "40"]
    key = ["-H", f"authorization:Bearer {front.key}"]
    ran = subprocess.run([*command, *key], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "Request count: 40" in ran.stdout
    without = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert without.returncode != 0
    assert "A key or token is needed" in without.stderr

"""A real Prometheus with the shipped configuration watches a real `newsdesk serve`: every expression finds data."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from msgspec.structs import replace

from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation.examine import Examiner
from newsdesk.build.reference import measure
from newsdesk.server.gateway.keys import Role
from newsdesk.server.runtime import manifest
from tests import tiny
from tests.docker.files import DOCKER
from tests.launching import Server, free_ports
from tests.server.gateway import gateways

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Prometheus is no Python package: apt-get install prometheus"
)
TEXTS = ["goal match goal", "", "a minister and a treaty", "market shares"] * 5
"""Those that are none are refused; the others are the reference, too, and so show no drift."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Yield a client of a Prometheus that has watched a server which answered some requests."""
    folder = tmp_path_factory.mktemp("prometheus")
    state = folder / "state"
    state.mkdir()
    (folder / "key").write_text(gateways.key(state, Role.reader))
    gateway, port = free_ports()[:2]
    # As in its image: the gateway asks for keys.
    options = [
        "--target",
        "onnxruntime:fp32",
        "--instances",
        "1",
        "--drift-window",
        "200",
        "--gateway-port",
        str(gateway),
        "--auth",
    ]
    server = Server(_repository(folder / "models"), state, options=options).start()
    process = None
    try:
        server.until("Ctrl-C stops it")
        process = subprocess.Popen(
            ["prometheus", f"--config.file={_config(folder, gateway, server.ports[2])}",
             f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"],
            stdout=subprocess.DEVNULL, stderr=(folder / "prometheus.log").open("wb"),
        )  # fmt: skip
        with (
            gateways.client(f"http://127.0.0.1:{gateway}", (folder / "key").read_text()) as caller,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as client,
        ):
            _until_scraped(client, caller)
            yield client
    finally:
        if process:
            process.terminate()
            process.wait()
        server.stop()


def _repository(folder: Path) -> Path:
    """Write a cascade of three tiny members, whose reference are TEXTS."""
    tiny.write_model(folder, tiny.write_cascade)
    version = folder / "ag_news" / "1"
    rows = [Row(text, 0) for text in TEXTS if text]
    manifest.save(replace(manifest.load(version), reference=measure(Examiner(version, 1), rows)), version)
    return folder


def _config(folder: Path, gateway: int, triton: int) -> Path:
    """Write the shipped configuration with this test's addresses, key and pace."""
    shutil.copy(DOCKER / "prometheus/alerts.yml", folder)
    text = (DOCKER / "prometheus/prometheus.yml").read_text()
    for shipped, here in {
        "newsdesk:8080": f"127.0.0.1:{gateway}",
        "newsdesk:8002": f"127.0.0.1:{triton}",
        "/run/secrets/prometheus": str(folder / "key"),
        "_interval: 15s": "_interval: 1s",
    }.items():
        assert shipped in text
        text = text.replace(shipped, here)
    (folder / "prometheus.yml").write_text(text)
    return folder / "prometheus.yml"


def _until_scraped(client: httpx.Client, caller: httpx.Client) -> None:
    """Ask the gateway until both jobs have been read, and after that for long enough to give a rate."""
    deadline, enough = time.monotonic() + 60, 0
    while enough < 4:
        assert time.monotonic() < deadline, "Prometheus does not read both jobs"
        for _ in range(5):
            assert caller.post("/v1/classify", json={"text": TEXTS}).status_code == 200
        try:
            enough += len(_ask(client, "up == 1")) == 2 and bool(_ask(client, "newsdesk_drift_index"))
        except (httpx.HTTPError, KeyError):  # not yet: it answers 503 while it starts
            enough = 0
        time.sleep(1)


def _ask(client: httpx.Client, expression: str) -> list:
    answer = client.get("/api/v1/query", params={"query": expression}).raise_for_status()
    return answer.json()["data"]["result"]


def _panels() -> list[tuple[str, str]]:
    dashboard = json.loads((DOCKER / "grafana/dashboards/newsdesk.json").read_text())
    return [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]


def _alerts() -> list[tuple[str, str]]:
    groups = yaml.safe_load((DOCKER / "prometheus/alerts.yml").read_text())["groups"]
    return [(rule["alert"], rule["expr"]) for group in groups for rule in group["rules"]]


@pytest.mark.parametrize(("title", "expression"), _panels())
def test_a_panel_shows_data(prometheus: httpx.Client, title: str, expression: str) -> None:
    samples = _ask(prometheus, expression.replace("$__rate_interval", "10s"))
    assert samples
    assert all(sample["value"][1] not in ("NaN", "+Inf") for sample in samples), samples


@pytest.mark.parametrize(("alert", "expression"), _alerts())
def test_an_alert_reads_metrics_that_exist(prometheus: httpx.Client, alert: str, expression: str) -> None:
    known = set(prometheus.get("/api/v1/label/__name__/values").json()["data"])
    named = set(re.findall(r"\b(?:nv|newsdesk)_[a-z_]+|\bup\b", expression))
    assert named
    assert named <= known


def test_no_alert_fires_on_a_server_that_is_well(prometheus: httpx.Client) -> None:
    assert prometheus.get("/api/v1/alerts").json()["data"]["alerts"] == []
    groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}

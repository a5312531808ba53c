"""The container files, checked by the tools made for each: no container engine is needed."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from newsdesk.server.gateway.rates import Rates
from newsdesk.server.gateway.settings import GatewaySettings
from tests.docker.files import DOCKER, DOCKERFILES, ROOT, context, instructions
from tests.launching import free_ports

PROMETHEUS = DOCKER / "prometheus"
SECRET = "/run/secrets/prometheus"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is no Python package: apt-get install prometheus"
)


def ran(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    assert ran(Path(sys.executable).with_name("hadolint"), dockerfile) == ""


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_pinned_runs_as_nobody_and_says_when_it_is_well(dockerfile: Path) -> None:
    steps = instructions(dockerfile)
    bases = [rest for word, rest in steps if word == "FROM"]
    assert all("${DIGEST}" in base for base in bases)
    versions = dict(rest.split("=", 1) for word, rest in steps if word == "ARG" and "=" in rest)
    assert all("latest" not in version for version in versions.values())
    of_the_last_stage = steps[max(i for i, (word, _) in enumerate(steps) if word == "FROM") :]
    last = dict(of_the_last_stage)
    assert last["USER"] == "10001"
    assert "/health/ready" in last["HEALTHCHECK"]
    assert last["EXPOSE"] == "8080 8081"  # the gateway's; nothing puts Triton's own ports beyond loopback
    assert "NEWSDESK_HOST" not in last["ENV"]
    assert "NEWSDESK_EXPOSE" not in last["ENV"]
    assert last["VOLUME"] == "/var/lib/newsdesk"
    assert json.loads(last["ENTRYPOINT"]) == ["newsdesk"]


def test_a_context_is_small_and_holds_what_is_copied() -> None:
    files = context()
    size = sum((ROOT / file).stat().st_size for file in files)
    model = sum(file.stat().st_size for file in (ROOT / "model_repository").rglob("*") if file.is_file())
    assert size < model + 2 * 2**20
    assert not any({"__pycache__", ".venv", ".git", "tests", "benchmarks"} & set(file.parts) for file in files)
    for dockerfile in DOCKERFILES:
        for word, rest in instructions(dockerfile):
            if word == "COPY" and not rest.startswith("--from"):
                for source in rest.split()[:-1]:
                    assert any(Path(source) in (file, *file.parents) for file in files), f"{dockerfile}: {source}"


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_a_compose_file_is_of_the_specification(name: str) -> None:
    ran(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / name)


def test_every_service_is_locked_up_and_checked() -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    assert set(compose["services"]) == {"newsdesk", "redis", "prometheus", "grafana"}
    for name, service in compose["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["healthcheck"] if name != "newsdesk" else True, name
        assert re.search(r"[:-](v?\d|cpu)", service["image"]), f"{name}: {service['image']} names no version"
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DOCKER / source).exists() if source.startswith(".") else source in compose["volumes"], volume
        for secret in service.get("secrets", ()):
            assert secret in compose["secrets"]
        assert re.search(r"\d[gm]\}?$", service["mem_limit"]), name
        assert 0 < service["pids_limit"] <= 1024, name
    newsdesk = compose["services"]["newsdesk"]
    assert [name for name, value in newsdesk["environment"].items() if "0.0.0.0" in value] == ["NEWSDESK_METRICS_HOST"]
    assert (DOCKER / newsdesk["build"]["context"] / "docker/Dockerfile.cpu").is_file()
    assert "state:/var/lib/newsdesk" in newsdesk["volumes"]


@needs_promtool
def test_the_alerts_fire_when_they_should_and_not_otherwise() -> None:
    ran("promtool", "test", "rules", "alerts.test.yml", cwd=PROMETHEUS)
    alerts = re.findall(r"alert: (\w+)", (PROMETHEUS / "alerts.yml").read_text())
    tested = (PROMETHEUS / "alerts.test.yml").read_text()
    assert all(f"alertname: {alert}\n        exp_alerts:" in tested for alert in alerts)


@needs_promtool
def test_prometheus_reads_its_configuration(tmp_path: Path) -> None:
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "prometheus.yml"
    assert SECRET in config.read_text()
    (tmp_path / "secret").write_text("nd_key")
    config.write_text(config.read_text().replace(SECRET, str(tmp_path / "secret")))
    assert "8 rules found" in ran("promtool", "check", "config", config)


def test_grafana_finds_its_dashboard_and_its_source() -> None:
    grafana = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["grafana"]
    mounts = {target: DOCKER / source for source, target, *_ in (mount.split(":") for mount in grafana["volumes"])}
    (provider,) = yaml.safe_load((DOCKER / "grafana/provisioning/dashboards/newsdesk.yaml").read_text())["providers"]
    (source,) = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert mounts["/etc/grafana/provisioning"].is_dir()
    dashboard = json.loads((mounts[provider["options"]["path"]] / "newsdesk.json").read_text())
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source["uid"]}
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in dashboard["panels"]})


@pytest.mark.parametrize("dockerfile", [path for path in DOCKERFILES if path.name != "Dockerfile.cpu"], ids=str)
def test_nvidias_image_is_one_with_the_advisories_fixed(dockerfile: Path) -> None:
    """All of those for servers; of Jetson's, those of September 2025. The build ends where Python is another one."""
    version = re.search(r"^ARG TRITON=(\d\d)\.(\d\d)-py3", dockerfile.read_text(), re.MULTILINE)
    assert version
    assert (int(version[1]), int(version[2])) >= ((25, 8) if dockerfile.suffix == ".jetson" else (26, 7))
    assert 'python3-venv="3.12.*"' in dockerfile.read_text()


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="Redis is no Python package: apt-get install redis")
def test_redis_asks_for_its_password_which_no_command_line_holds(tmp_path: Path) -> None:
    """The command and the health check of the Compose file, run as they are written."""
    redis = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["redis"]
    (tmp_path / "redis").write_text("sesame of the tests\n".replace(" ", "-"))
    (port, *_) = free_ports()

    def here(command: str) -> str:
        return command.replace("$$", "$").replace("/run/secrets", str(tmp_path))

    start = here(redis["command"][2]) + f" --port {port} --bind 127.0.0.1 --dir {tmp_path}"
    process = subprocess.Popen(["sh", "-c", start], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        healthy = here(redis["healthcheck"]["test"][1]).replace("redis-cli", f"redis-cli -p {port}")
        deadline = time.monotonic() + 20
        while subprocess.run(["sh", "-c", healthy], check=False, capture_output=True).returncode:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        asked = subprocess.run(["redis-cli", "-p", str(port), "get", "x"], capture_output=True, text=True, check=False)
        assert "NOAUTH" in asked.stdout + asked.stderr
        settings = {"keys": tmp_path / "keys.json", "rate_limit": "1/minute"}
        settings |= {"rate_storage": f"redis://127.0.0.1:{port}/0", "rate_storage_password_file": tmp_path / "redis"}
        asyncio.run(Rates(GatewaySettings(**settings)).count("somebody"))
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert not [line for line in lines if b"sesame-of" in line]
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # Redis is a child of the shell
        process.wait()

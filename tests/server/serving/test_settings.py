import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from newsdesk.server.serving import commands, settings
from newsdesk.server.serving.settings import Settings, SettingsError, granted_cores, with_gateway


def test_defaults_listen_on_the_loopback(tmp_path: Path) -> None:
    settings = Settings(model_repository=tmp_path)
    assert (settings.host, settings.http_port, settings.grpc_port, settings.metrics_port) == (
        "127.0.0.1",
        8000,
        8001,
        8002,
    )
    assert settings.instance_count == max(2, granted_cores())


def test_one_core_has_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's batcher does not see a single instance become free, and sleeps for up to half a second."""
    monkeypatch.setattr(settings, "granted_cores", lambda: 1)
    assert Settings(model_repository=tmp_path).instance_count == 2
    assert Settings(model_repository=tmp_path, instances=1).instance_count == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"http_port": 0}, "--http-port (NEWSDESK_HTTP_PORT) is '0'; expected a port between 1 and 65535"),
        ({"grpc_port": 70000}, "--grpc-port (NEWSDESK_GRPC_PORT) is '70000'"),
        (
            {"grpc_port": 8000},
            "--http-port (NEWSDESK_HTTP_PORT) is '8000'; expected three different ports, and that is --grpc-port "
            "(NEWSDESK_GRPC_PORT), too",
        ),
        ({"instances": -1}, "--instances (NEWSDESK_INSTANCES) is '-1'; expected 0"),
        (
            {"target": "tensorrt"},
            "--target (NEWSDESK_TARGET): target 'tensorrt' in 'tensorrt': expected one of openvino:int8",
        ),
        ({"target": "minilm=openvino:int8,e5="}, "target 'e5='"),
        ({"host": "no such host"}, "--host (NEWSDESK_HOST) is 'no such host'; expected an IPv4 or IPv6 address"),
        ({"host": "fe80::1%lo"}, "--host (NEWSDESK_HOST) is 'fe80::1%lo'; expected an address without a zone"),
        ({"cache": "much"}, "--cache (NEWSDESK_CACHE) is 'much'; expected a size of at least 1MB"),
        ({"cache": "999KB"}, "at least 1MB"),
        (
            {"unsure_share": 0.3},
            "--unsure-share (NEWSDESK_UNSURE_SHARE) is '0.3'; expected a share of texts, 0 (none) to",
        ),
        ({"log_level": "loud"}, "error, warning, info, verbose"),
        ({"state": "/tmp/with space"}, "--state (NEWSDESK_STATE) is '/tmp/with space'"),
    ],
)
def test_a_bad_value_is_refused_by_flag_and_variable(tmp_path: Path, options: dict, complaint: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings(model_repository=tmp_path, **options)
    assert complaint in str(refused.value)


def test_the_cache_has_a_size(tmp_path: Path) -> None:
    for cache, size in {
        "": 0,
        "256MB": 256_000_000,
        "2G": 2 * 10**9,
        "1500 kb": 1_500_000,
        "4000000": 4_000_000,
    }.items():
        assert Settings(cache=cache, model_repository=tmp_path).cache_bytes == size


def test_a_name_becomes_its_address(tmp_path: Path) -> None:
    assert Settings(host="localhost", model_repository=tmp_path).host == "127.0.0.1"
    assert Settings(host="0.0.0.0", model_repository=tmp_path).local_host == "127.0.0.1"


@pytest.mark.parametrize("host", ["::", "::1", "0:0:0:0:0:0:0:1"])
def test_an_ipv6_address_stands_in_brackets(tmp_path: Path, host: str) -> None:
    settings = with_gateway(Settings(host=host, model_repository=tmp_path))
    assert (settings.local_host, settings.netloc(8001)) == ("::1", "[::1]:8001")
    assert settings.gateway is not None
    assert settings.gateway.local_url == "http://[::1]:8080"


def test_the_repository_is_looked_for_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "__file__", str(tmp_path / "installed" / "server" / "serving" / "settings.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"no model repository: looked for .*--model-repository"):
        Settings()
    (tmp_path / "model_repository" / "ag_news").mkdir(parents=True)
    (tmp_path / "model_repository" / "ag_news" / "config.pbtxt").touch()
    assert Settings().model_repository == tmp_path / "model_repository"


def test_the_state_is_kept_under_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert Settings(model_repository=tmp_path).state == tmp_path / "newsdesk"


def test_a_flag_beats_the_environment_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: dict = {}

    def keep(**options: object) -> None:
        loaded.update(options)
        raise typer.Exit

    monkeypatch.setattr(commands, "settings_of", keep)
    application = typer.Typer()
    application.command()(commands.serve)
    variables = {"NEWSDESK_HTTP_PORT": "9000", "NEWSDESK_GRPC_PORT": "9001", "NEWSDESK_STATE": "/tmp/state"}
    ran = CliRunner().invoke(application, ["--http-port", "7000"], env=variables)
    assert ran.exit_code == 0
    assert (loaded["http_port"], loaded["grpc_port"], loaded["metrics_port"]) == (7000, 9001, 8002)
    assert loaded["state"] == Path("/tmp/state")
    ran = CliRunner().invoke(application, [], env={"NEWSDESK_INSTANCES": "many"})
    assert ran.exit_code == 2
    assert "NEWSDESK_INSTANCES" in ran.output


def _machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    for path, text in {"proc/self/cgroup": groups, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        (
            "0::/a/b\n",
            {"sys/fs/cgroup/a/cpu.max": "300000 100000\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"},
            3,
        ),
        ("0::/of/the/host\n", {"sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        (
            "5:cpuacct,cpu:/x\n",
            {
                "sys/fs/cgroup/cpuacct,cpu/x/cpu.cfs_quota_us": "350000\n",
                "sys/fs/cgroup/cpuacct,cpu/x/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            "1:cpu:/\n",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            8,
        ),
        ("", {}, 8),
    ],
)
def test_cores_are_what_the_cgroup_grants(tmp_path: Path, groups: str, files: dict[str, str], cores: int) -> None:
    """D 42, 44."""
    assert granted_cores(_machine(tmp_path, groups, files)) == cores


def test_cores_are_at_most_what_affinity_grants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert granted_cores(_machine(tmp_path, "0::/\n", {"sys/fs/cgroup/cpu.max": "800000 100000"})) == 1

"""NEWSDESK_… variables of the commands: wrong ones are named with their values, Kubernetes' are passed over."""

import os
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import newsdesk.clients
from newsdesk.clients.cli.app import app
from newsdesk.clients.cli.commands import load
from tests.launching import free_ports


def run(command: str, folder: Path, **variables: str) -> Result:
    environment = {"NEWSDESK_STATE": str(folder), "COLUMNS": "300"} | variables
    return CliRunner().invoke(app, [command], env=environment)


WRONG = {
    "HOST": "nowhere.invalid", "HTTP_PORT": "http", "GRPC_PORT": "0", "METRICS_PORT": "70000", "INSTANCES": "-1",
    "THREADS": "two", "QUEUE_DELAY": "1.5", "TARGET": "cuda", "STATE": "/with space", "CACHE": "lots",
    "LOG_LEVEL": "loud", "UNSURE_SHARE": "0.5", "GATEWAY": "perhaps", "GATEWAY_PORT": "0",
    "GATEWAY_HOST": "nowhere.invalid", "EXPOSE": "everything",
    "ALLOWED_HOST": "a:1", "JWT_ADMIN": "perhaps",
    "AUTH": "perhaps", "INSECURE": "perhaps", "JWKS": "/nowhere.json", "RATE_LIMIT": "many",
    "RATE_STORAGE": "mysql://x", "CORS_ORIGIN": "x", "MAX_BODY_MIB": "0", "MAX_FILE_MIB": "x", "MAX_TEXTS": "-1",
    "MAX_QUEUE": "0", "MAX_CONNECTIONS": "0", "REQUEST_TIMEOUT": "nan", "HEDGE_SHARE": "0.5", "LOG_TEXTS": "perhaps",
    "METRICS_HOST": "nowhere.invalid", "CONFIG": "/nowhere.toml", "GATEWAY_GRPC_PORT": "70000",
    "TLS_CERT": "/alone.pem", "TLS_KEY": "/alone.pem", "TLS_CLIENT_CA": "/alone.pem",
    "CANARY": "2", "SHADOW": "many", "ROLLOUT_RULE": "least", "MAX_JOBS": "0", "MAX_JOBS_MIB": "0", "JOB_HOURS": "-1.5",
    "DRIFT_WINDOW": "3",
}  # fmt: skip
"""Each variable of `serve` that needs no look at the machine, with a value that cannot be used."""
AT_THE_MACHINE = {"MODEL_REPOSITORY": "/nowhere", "MODEL": "nowhere", "KEYS": "/", "JWT_SECRET_FILE": "/nowhere",
                  "RATE_STORAGE_PASSWORD_FILE": "/nowhere", "STATE": "/proc/nowhere",
                  "FEEDBACK": "/proc/nowhere"}  # fmt: skip
"""Those that name files, likewise; they are read with the checks of the machine."""
ANY_TEXT = {"JWT_ISSUER", "JWT_AUDIENCE", "JWT_ROLE_CLAIM"}


@pytest.mark.parametrize(("variable", "value"), WRONG.items())
def test_a_wrong_value_is_named_with_its_variable(tmp_path: Path, variable: str, value: str) -> None:
    ran = run("serve", tmp_path, **{f"NEWSDESK_{variable}": value})
    assert ran.exit_code == 2
    assert f"NEWSDESK_{variable}" in ran.output
    assert f"'{value}'" in ran.output
    assert "Traceback" not in ran.output


@pytest.mark.parametrize(("variable", "value"), AT_THE_MACHINE.items())
def test_a_file_that_cannot_be_used_is_named_with_its_variable(tmp_path: Path, variable: str, value: str) -> None:
    ports = dict(zip(("HTTP", "GRPC", "METRICS", "GATEWAY"), free_ports(4), strict=True))
    free = {f"NEWSDESK_{name}_PORT": str(port) for name, port in ports.items()}
    ran = run("serve", tmp_path, **free, NEWSDESK_TARGET="openvino:int8", **{f"NEWSDESK_{variable}": value})
    assert ran.exit_code == 2
    (problem, *remedy) = ran.output[ran.output.index("problem ") :].splitlines()
    assert value in problem
    assert f"NEWSDESK_{variable}" in problem + "".join(remedy)
    assert ran.output.count("problem ") == 1


def test_no_variable_is_left_out() -> None:
    (entry,) = entry_points(group="newsdesk.commands", name="serve")
    variables = {option.envvar.removeprefix("NEWSDESK_") for option in load(entry).params if option.envvar}
    assert variables == WRONG.keys() | AT_THE_MACHINE.keys() | ANY_TEXT


def test_a_wrong_flag_is_named_with_its_value(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["serve", "--instances", "many"], env={"COLUMNS": "300"})
    assert ran.exit_code == 2
    assert "--instances" in ran.output
    assert "'many'" in ran.output
    assert "NEWSDESK_INSTANCES" not in ran.output


def test_service_links_of_kubernetes_are_passed_over_with_a_warning(tmp_path: Path) -> None:
    """For a Service that is called newsdesk-gateway, and one called newsdesk."""
    links = {
        "NEWSDESK_GATEWAY_PORT": "tcp://10.0.0.1:8080",
        "NEWSDESK_GATEWAY_SERVICE_HOST": "10.0.0.1",
        "NEWSDESK_GATEWAY_SERVICE_PORT": "8080",
        "NEWSDESK_HTTP_PORT": "tcp://[fd00::1]:8000",
        "NEWSDESK_PORT": "udp://10.0.0.1:8000",
        "NEWSDESK_PORT_8000_UDP_ADDR": "10.0.0.1",
        "NEWSDESK_SERVICE_HOST": "10.0.0.1",
        "NEWSDESK_LOG_LEVEL": "loud",  # stops it here, with everything else read
    }
    ran = run("serve", tmp_path, **links)
    assert ran.exit_code == 2
    warning, error = ran.stderr.splitlines()
    assert warning.startswith("newsdesk: warning: no setting, passed over: NEWSDESK_")
    for name in "NEWSDESK_GATEWAY_PORT", "NEWSDESK_HTTP_PORT", "NEWSDESK_PORT":
        assert f"{name}={links[name]}" in warning
    assert "enableServiceLinks: false" in warning
    assert error.startswith("--log-level (NEWSDESK_LOG_LEVEL) is 'loud'")
    ran = run("serve", tmp_path, NEWSDESK_GATEWAY_PORT="tcp:/10.0.0.1:8080")
    assert "NEWSDESK_GATEWAY_PORT (--gateway-port): it is 'tcp:/10.0.0.1:8080'" in ran.stderr
    assert "NEWSDESK_GATEWAY_PORT" not in os.environ


def test_the_version_is_that_of_the_package() -> None:
    ran = CliRunner().invoke(app, ["--version"])
    assert (ran.exit_code, ran.output) == (0, f"newsdesk {newsdesk.clients.__version__}\n")
    assert newsdesk.clients.__version__ == version("newsdesk")

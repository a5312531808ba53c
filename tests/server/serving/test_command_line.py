"""Each option is a flag, a variable and a key of serve.toml, and the gateway's copy is the same."""

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from newsdesk.server import options
from newsdesk.server.gateway.settings import GatewaySettings, Launch
from newsdesk.server.rollouts import Candidate
from newsdesk.server.serving import command_line, commands, upkeep
from newsdesk.server.serving import keys as of_keys
from newsdesk.server.serving.settings import Settings

NAMES = {name for settings in (Settings, GatewaySettings) for name, *_ in options.options(settings)}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The options as `serve` takes them, which goes no further."""
    values: dict[str, Any] = {}

    def take(**options: Any) -> None:
        values.update(options)
        raise typer.Exit

    monkeypatch.setattr(commands, "settings_of", take)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return values


def run(command: Any, *arguments: str, **variables: str) -> Result:
    application = typer.Typer()
    application.command()(command)
    return CliRunner().invoke(application, arguments, env=variables)


def write(file: Path, text: str) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return str(file)


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(taken: dict[str, Any], tmp_path: Path) -> None:
    file = write(
        tmp_path / "own.toml",
        "http_port = 1\ngrpc_port = 2\nmetrics_port = 3\nstate = '/srv/state'\nauth = true\ngateway = false\n"
        "cors_origin = ['https://a.example', 'https://b.example']\nrequest_timeout = 5\n",
    )
    ran = run(commands.serve, "--config", file, "--http-port", "11", NEWSDESK_HTTP_PORT="21", NEWSDESK_GRPC_PORT="22")
    assert ran.exit_code == 0, ran.output
    assert (taken["http_port"], taken["grpc_port"], taken["metrics_port"]) == (11, 22, 3)
    assert (taken["state"], taken["auth"], taken["gateway"]) == (Path("/srv/state"), True, False)
    assert taken["cors_origin"] == ["https://a.example", "https://b.example"]
    assert (taken["request_timeout"], taken["threads"], taken["config"]) == (5.0, 0, Path(file))


def test_the_file_is_looked_for_where_a_user_keeps_such(taken: dict[str, Any], tmp_path: Path) -> None:
    assert run(commands.serve).exit_code == 0
    assert (taken["threads"], taken["config"]) == (0, None)
    write(tmp_path / "config" / "newsdesk" / "serve.toml", "threads = 3\n")
    assert run(commands.serve).exit_code == 0
    assert (taken["threads"], taken["config"]) == (3, tmp_path / "config" / "newsdesk" / "serve.toml")
    other = write(tmp_path / "other.toml", "")
    assert run(commands.serve, NEWSDESK_CONFIG=other).exit_code == 0
    assert (taken["threads"], taken["config"]) == (0, Path(other))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http-port = 1", "no setting is called 'http-port'; expected a flag's name with _ for -, perhaps http_port."),
        ("colour = 1\nsate = 2", "no setting is called 'colour'; expected a flag's name with _ for -, as http_port "),
        ("colour = 1\nsate = 2", "no setting is called 'sate'; expected a flag's name with _ for -, perhaps state."),
        ("config = 'another.toml'", "no setting is called 'config'"),
        ("http_port = '80'", "http_port is '80'; Expected `int`, got `str`."),
        ("http_port = true", "http_port is True; Expected `int`, got `bool`."),
        ("auth = 'yes'", "auth is 'yes'; Expected `bool`, got `str`."),
        ("cors_origin = 'https://a.example'", "cors_origin is 'https://a.example'; Expected `array`, got `str`."),
        ("state = 3", "state is 3; "),
        ("http_port 80", "expected TOML, as http_port = 8000."),
        ("http_port = 0", "--http-port (NEWSDESK_HTTP_PORT) is '0'; expected a port between 1 and 65535. Settings "),
        ("max_texts = 0", "--max-texts (NEWSDESK_MAX_TEXTS) is '0'; expected more than 0. Settings are read from "),
    ],
)
def test_what_cannot_be_used_is_named_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path / "serve.toml", text)
    ran = run(commands.doctor, "--config", file, "--state", str(tmp_path))
    assert ran.exit_code == 2
    assert message in ran.output
    assert file in ran.output


def test_every_option_of_serve_is_one_of_doctor_and_a_key_of_the_file(tmp_path: Path) -> None:
    own = {"config", "as_json"}
    assert set(inspect.signature(commands.serve).parameters) == NAMES | own
    assert set(inspect.signature(commands.doctor).parameters) == NAMES | own
    samples = {int: "1", float: "0.5", bool: "true", str: "'x'", Path: "'/x'", list[str]: "['x']"}
    kinds = {
        name: command_line._kind(settings, field, about) for settings, name, field, about in command_line._declared()
    }
    file = write(tmp_path / "serve.toml", "".join(f"{name} = {samples[kind]}\n" for name, kind in kinds.items()))
    assert command_line.read(Path(file)).keys() == NAMES


@pytest.mark.parametrize("command", [commands.prepare, upkeep.tune, upkeep.rollback])
def test_what_needs_no_more_takes_the_model_and_the_state(command: Any) -> None:
    assert {"model_repository", "state", "config"} <= set(inspect.signature(command).parameters)


def test_keys_are_kept_where_the_file_of_serve_has_them(tmp_path: Path) -> None:
    """The file may hold what `newsdesk keys` has no use for."""
    file = write(tmp_path / "serve.toml", f"state = '{tmp_path / 'state'}'\nhttp_port = 9000\n")
    ran = run(of_keys.keys, "create", "desk", "--config", file, "--json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["name"] == "desk"
    assert (tmp_path / "state" / "keys.json").is_file()


def test_the_gateway_is_handed_every_setting(tmp_path: Path) -> None:
    settings = GatewaySettings(
        keys=tmp_path / "keys.json",
        auth=True,
        rate_storage="redis://:sesame@x/0",
        cors_origin=("https://a.example",),
        jwt_secret_file=tmp_path / "secret",
        request_timeout=2.5,
    )
    paths = {name: tmp_path / name for name in ("repository", "source", "state", "run", "audit_log")}
    others = {field.name: {"news": 2} if field.name == "models" else "x" for field in dataclasses.fields(Launch)}
    others["candidates"] = (Candidate("2", 0.05, "x"),)  # type: ignore[assignment]
    launch = Launch(**others | paths | {"settings": settings, "models": {"x": 2}})  # type: ignore[arg-type]
    assert Launch.decode(launch.encode()) == launch


def test_paths_keep_their_meaning_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway runs in another directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jwks.json").touch()
    told = {"jwks": "jwks.json", "jwt_issuer": "x", "jwt_audience": "x", "jwt_secret_file": Path("secret")}
    settings = GatewaySettings(keys=Path("keys.json"), **told)  # type: ignore[arg-type]
    assert (settings.keys, settings.jwt_secret_file) == (tmp_path / "keys.json", tmp_path / "secret")
    assert settings.jwks == str(tmp_path / "jwks.json")

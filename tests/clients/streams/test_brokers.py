"""URLs and files of brokers, and brokers whose client is not installed."""

import sys
from pathlib import Path

import pytest

from newsdesk.clients.streams.brokers import StreamUrl, parse, read_properties
from tests.clients.cli.command import run


def test_a_url_names_servers_and_stream() -> None:
    assert parse("kafka://one:9092,other:9092/news-in") == StreamUrl("kafka", "one:9092,other:9092", "news-in")
    assert parse("redis://host/news:in?db=2") == StreamUrl("redis", "host", "news:in", {"db": "2"})


@pytest.mark.parametrize("url", ["kafka://host:9092", "http://host/topic", "redis:///in", "redis://host/in#x", "x"])
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected kafka://host:9092/topic, redis://host:6379/stream or rediss"):
        parse(url)


def test_a_password_belongs_in_a_file_and_is_not_shown() -> None:
    result = run("consume", "redis://user:sesame@host/in", "--to", "redis://host/out")
    assert result.exit_code == 2
    assert "sesame" not in result.output
    assert "--redis-password-file" in result.stderr


def test_options_of_librdkafka_are_lines(tmp_path: Path) -> None:
    file = tmp_path / "kafka.properties"
    file.write_text("# for the cluster\nsecurity.protocol = SASL_SSL\n\nsasl.password=a=b\n")
    assert read_properties(file) == {"security.protocol": "SASL_SSL", "sasl.password": "a=b"}
    file.write_text("security.protocol SASL_SSL\n")
    with pytest.raises(ValueError, match="line 1: expected name=value"):
        read_properties(file)


@pytest.mark.parametrize(
    ("url", "client", "extra"), [("kafka://h:9092", "confluent_kafka", "kafka"), ("redis://h", "redis", "redis")]
)
def test_a_client_that_is_missing_is_named_with_its_remedy(
    url: str, client: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "kafka" if extra == "kafka" else "redis_streams"
    monkeypatch.delitem(sys.modules, f"newsdesk.clients.streams.{module}", raising=False)
    monkeypatch.setitem(sys.modules, client, None)
    result = run("consume", f"{url}/in", "--to", f"{url}/out")
    assert result.exit_code == 2
    assert f"needs {client}, which is not installed: pip install 'newsdesk[{extra}]'" in result.stderr


@pytest.mark.parametrize(
    ("options", "says"), [(["--batch", "9", "--unanswered", "8"], "room for a batch"), (["--url", "x://y"], "url is")]
)
def test_wrong_usage_ends_with_2(options: list[str], says: str) -> None:
    result = run("consume", "redis://127.0.0.1:1/in", "--to", "redis://127.0.0.1:1/out", *options)
    assert result.exit_code == 2
    assert says in result.stderr

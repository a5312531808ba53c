"""The gateway's own calls over TLS, to Redis and a collector of traces, by the certificates of the tests' own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from newsdesk.server.gateway.keys import Role
from tests import brokers
from tests.certificates import Authority
from tests.server.gateway import gateways
from tests.server.gateway.collector import Collector
from tests.server.gateway.conftest import Served


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority.pem")


@pytest.fixture
def redis(tmp_path: Path, authority: Authority) -> Iterator[str]:
    """The URL of a Redis that speaks TLS alone."""
    with brokers.redis_server(tmp_path, authority=authority) as url:
        yield url


def test_rates_are_counted_in_a_redis_that_speaks_tls(served: Served, tmp_path: Path, redis: str) -> None:
    key = gateways.key(tmp_path, Role.reader)
    limits = {"auth": True, "rate_limit": "1/minute"}
    statuses: dict[str, list[int]] = {}
    for url in redis.partition("?")[0], redis:
        with gateways.gateway(tmp_path, served.server.ports, rate_storage=url, **limits) as client:
            client.headers["X-API-Key"] = key
            statuses[url] = [client.get("/v1/labels").status_code for _ in range(2)]
    assert list(statuses.values()) == [[503, 503], [200, 429]]  # nobody trusts the tests' authority unasked


def test_traces_go_to_a_collector_that_speaks_tls(
    served: Served, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Collector(files=authority.issue(tmp_path / "collector")) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(authority.file))
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        for name in "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE":  # which would go before OpenTelemetry's own
            monkeypatch.delenv(name, raising=False)
        trace = "ab" * 16
        with gateways.gateway(tmp_path, served.server.ports) as client:
            caller = {"traceparent": f"00-{trace}-{'cd' * 8}-01"}
            assert client.post("/v1/classify", json={"text": "match"}, headers=caller).status_code == 200
            assert {span.service for span in collector.of(trace, 1)} == {"newsdesk-gateway"}

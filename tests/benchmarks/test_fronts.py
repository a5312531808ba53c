"""A Redis and a collector that do what they are asked: gateways are measured against them."""

import ssl
from pathlib import Path

import httpx
import pytest

from benchmarks import fronts
from tests.certificates import Authority


def test_a_door_over_tls_brings_the_one_without_it() -> None:
    assert fronts.wanted(["tls", "redis-tls", "keys"]) == ["tls", "redis", "redis-tls", "keys"]
    assert [fronts.DOORS[door].rpartition(", ")[0] for door in ("redis-tls", "otlp-tls")] == [
        fronts.DOORS["redis"],
        fronts.DOORS["otlp"],
    ]


@pytest.mark.parametrize("over_tls", [False, True])
def test_the_collector_counts_what_comes(tmp_path: Path, over_tls: bool) -> None:
    authority = Authority(tmp_path / "authority.pem")
    with fronts._collector(authority.issue(tmp_path) if over_tls else None) as (url, received):
        for kind in "application/x-protobuf", "application/json", "application/json":
            httpx.post(
                f"{url}/v1/traces",
                content=bytes(10**6),
                headers={"Content-Type": kind},
                verify=ssl.create_default_context(cafile=authority.file),
                trust_env=False,
            ).raise_for_status()
        assert received() == "the collector took 1.0 MB in 1 posts of the gateway and 2.0 MB in 2 posts of Triton"

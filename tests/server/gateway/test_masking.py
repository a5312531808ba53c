"""Texts in the log: only where asked for, and never with what tells of a person in clear."""

import importlib.util
import time
from pathlib import Path

import pytest

from newsdesk.server.gateway.masking import mask
from newsdesk.server.serving import gateway
from tests.server.gateway import gateways
from tests.server.gateway.conftest import Served
from tests.server.gateway.test_settings import settings

PERSONAL = {
    "EMAIL": ["jane.doe+desk@news-desk.example", "jörg@müller.example", "root@localhost"],
    "PHONE": ["+44 20 7946 0958", "(555) 010-9999", "415-555-0132", "+4366412345678"],
    "CREDIT_CARD": ["4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005"],
    "SSN": ["078-05-1120"],
    "IP_ADDRESS": ["192.168.17.4", "2001:db8::ff00:42:8329", "fe80::1", "::ffff:192.0.2.1"],
    "NUMBER": ["0664 1234567", "06 12 34 56 78", "DE89370400440532013000"],
}


@pytest.mark.parametrize("kind", PERSONAL)
def test_each_kind_wherever_it_stands(kind: str) -> None:
    for personal in PERSONAL[kind]:
        for text in f"Write to {personal}, or not.", personal, f"<{personal}>", f"at {personal}.", f"tel:{personal};x":
            masked = mask(text)
            assert personal not in masked, masked
            assert sum(character.isdigit() for character in masked) <= 2, masked  # no part of it either
            assert "jane" not in masked
    assert f"[{kind}]" in mask(f"Write to {PERSONAL[kind][0]} today.")


def test_news_stays_readable() -> None:
    text = "Dow falls 1,234.56 points to 10,080 at 10:30:15; Sox win 2-1 (AP) in Game 7 of 2004, std::vector aside."
    assert mask(text) == text


def test_what_is_cut_is_not_half_a_number() -> None:
    """And no length or form of a text takes long."""
    for before in range(4096 - 20, 4096):
        for personal in "+44 20 7946 0958", "4111 1111 1111 1111", "jane@news.example":
            # Masks are shorter than what they stand for, so that the end of what is read can come to be shown.
            text = (
                ("someone.with.a.very.long.name@a-very-long-domain-of-news.example " * 63)[: before - 1]
                + " "
                + personal
            )
            assert "jane" not in mask(text)
            assert not any(character.isdigit() for character in mask(text))
    began = time.process_time()
    for hostile in "1 " * 120_000, "a." * 120_000, "1:" * 120_000, "@" * 240_000, "+(" * 120_000, "a@b." * 60_000:
        assert len(mask(hostile)) <= 1024
    assert time.process_time() - began < 2


def test_the_log_of_a_gateway_that_is_asked_for_texts(served: Served, tmp_path: Path) -> None:
    everything = ", ".join(personal for kind in PERSONAL.values() for personal in kind)
    with gateways.gateway(tmp_path, served.server.ports, log_texts=True) as client:
        marked = {"X-Request-ID": "with-texts"}
        client.post("/v1/classify", json={"text": ["Zanzibar shares", f"of {everything}"]}, headers=marked)
        client.post("/v1/classify", json={"text": "stand-in, fail for jane@news.example"}, headers=marked)
        client.post(
            "/v1/classify/file",
            content=f'{{"text": "{everything}"}}\n',
            headers={"Content-Type": "application/x-ndjson"},
        )
        client.post("/graphql", json={"query": '{ classify(texts: ["call 415-555-0132"]) { label } }'})
    entries = [entry for entry in gateways.logged(tmp_path / "gateway.log") if entry["event"] == "texts"]
    assert len(entries) == 4
    assert [entry["request_id"] for entry in entries[:2]] == ["with-texts"] * 2
    assert entries[0]["texts"][0] == "Zanzibar shares"
    assert entries[1]["texts"] == ["stand-in, fail for [EMAIL]"]
    log = (tmp_path / "gateway.log").read_text()
    assert [personal for kind in PERSONAL.values() for personal in kind if personal in log] == []


def test_the_extra_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "datafog" else find(name))
    (check,) = gateway.check(settings(tmp_path, log_texts=True))
    assert (check.level, "--log-texts needs datafog" in check.found) == ("problem", True)
    assert check.remedy == "pip install 'newsdesk[log-texts]', or log no texts."
    assert all("datafog" not in check.found for check in gateway.check(settings(tmp_path)))

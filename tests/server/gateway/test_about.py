import json
import socket
import time
from contextlib import suppress
from pathlib import Path

import httpx

from tests.holding import Hold, until
from tests.launching import LABELS, Callers
from tests.server.gateway import gateways
from tests.server.gateway.conftest import Served


def test_labels_and_models(reader: httpx.Client) -> None:
    assert reader.get("/v1/labels").json() == {"labels": LABELS}
    (model,) = reader.get("/v1/models").json()["models"]
    assert (model["name"], model["versions"], model["target"]) == ("ag_news", ["1"], "openvino:int8")
    assert model["members"] == [{"name": "stand-in", "kind": "encoder", "graphs": ["int8"], "max_length": 128}]
    assert model["labels"] == LABELS
    assert [level["members"] for level in model["cascade"]] == [["stand-in"]]
    assert len(model["cascade"][0]["thresholds"]["balanced"]) == len(LABELS)
    assert model["windows"]["overlap"] == 0.25
    assert model["figures"] == {}
    assert {"UNCERTAINTY", "UNSURE"} <= {*model["outputs"]}
    assert model["unsure"] is None  # the stand-in marks by a word; its manifest has no table


def test_health_and_metrics(reader: httpx.Client, open_gateway: httpx.Client) -> None:
    """C 33: ready means a real answer, lately."""
    assert httpx.get(reader.base_url.join("/health/live")).json() == {"live": True}
    ready = httpx.get(reader.base_url.join("/health/ready")).json()
    assert ready["ready"]
    assert ready["last_answer_seconds"] is not None
    open_gateway.post("/v1/classify", json={"text": ["shares", ""]})
    exposed = open_gateway.get("/metrics").text
    assert 'newsdesk_gateway_requests_total{model="ag_news",route="/v1/classify",status="200"}' in exposed
    assert 'newsdesk_gateway_texts_total{model="ag_news",outcome="refused"}' in exposed
    assert 'newsdesk_gateway_ready{model="ag_news"} 1.0' in exposed
    assert 'newsdesk_gateway_queued_texts{model="ag_news"} 0.0' in exposed


def test_head_is_get_without_a_body(open_gateway: httpx.Client) -> None:
    for path in "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/metrics":
        answer, head = open_gateway.get(path), open_gateway.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type" if answer.content else "x-request-id"]
    assert open_gateway.head("/v1/classify").status_code == 405


def test_security_headers_and_request_ids(open_gateway: httpx.Client) -> None:
    for path in "/health/live", "/v1/labels", "/nothing", "/openapi.json":
        headers = open_gateway.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers
        assert len(headers["x-request-id"]) == 16
    asked = {"Origin": "https://desk.example", "Access-Control-Request-Method": "POST"}
    for answer in open_gateway.get("/v1/labels", headers=asked), open_gateway.options("/v1/classify", headers=asked):
        assert not any(name.startswith("access-control-") for name in answer.headers)
    assert open_gateway.get("/health/live", headers={"X-Request-ID": "mine-7"}).headers["x-request-id"] == "mine-7"
    assert open_gateway.get("/health/live", headers={"X-Request-ID": "a b\t{"}).headers["x-request-id"] != "a b\t{"


def test_the_log_is_json_with_request_ids_and_no_texts(served: Served) -> None:
    with served.client("reader") as client:
        for text in "Zanzibar shares", {"title": ["Zanzibar"]}:
            client.post("/v1/classify", json={"text": text}, headers={"X-Request-ID": "known"})
        client.get("/v1/nothing?text=Zanzibar")
    (log,) = (served.server.state / "log").glob("gateway-*.log")
    entries = [entry for entry in gateways.logged(log) if entry.get("request_id") == "known"]
    assert [(entry["route"], entry["status"]) for entry in entries] == [("/v1/classify", 200), ("/v1/classify", 422)]
    assert entries[0]["caller"].startswith("key:")
    assert entries[0]["texts"] == 1
    assert entries[0]["ms"] > 0
    assert "Zanzibar" not in log.read_text()
    assert not any(key in log.read_text() for key in served.keys.values())


def test_cors_is_for_those_listed(served: Served, tmp_path: Path) -> None:
    origin = "https://desk.example"
    with gateways.gateway(tmp_path, served.server.ports, cors_origin=(origin,)) as client:
        listed = client.get("/v1/labels", headers={"Origin": origin})
        other = client.get("/v1/labels", headers={"Origin": "https://evil.example"})
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        preflight = client.options("/v1/classify", headers=asked | {"Access-Control-Request-Headers": "x-api-key"})
    assert listed.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-origin" not in other.headers
    assert preflight.status_code == 200


def test_the_document_describes_bodies_and_problems(open_gateway: httpx.Client) -> None:
    document = open_gateway.get("/openapi.json").json()
    references = {part.split('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]}
    assert references <= set(document["components"]["schemas"])
    operation = document["paths"]["/v1/classify"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/ClassifyRequest")
    assert {"200", "400", "401", "413", "415", "422", "429", "503", "504"} <= set(operation["responses"])


def test_without_a_model_it_is_live_but_not_ready(tmp_path: Path) -> None:
    """Nothing listens behind it: a deadline, and problems instead of stack traces."""
    with gateways.gateway(tmp_path, [1, 1, 1], request_timeout=1.0) as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 503
        began = time.monotonic()
        for answer in client.post("/v1/classify", json={"text": "a"}), client.get("/v1/models"):
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["type"] == "urn:newsdesk:problem:unavailable"
        assert time.monotonic() - began < 30  # a second each, and not the half minute of a default


def test_a_slow_model_meets_the_time_limit_and_a_full_queue_is_429(served: Served, tmp_path: Path, hold: Hold) -> None:
    """B 20, 21, 22."""
    with gateways.gateway(tmp_path, served.server.ports, request_timeout=0.5, max_queue=10) as client:

        def ask(*texts: str) -> httpx.Response:
            return client.post("/v1/classify", json={"text": texts})

        late = ask(hold.text)
        assert (late.status_code, late.json()["type"]) == (504, "urn:newsdesk:problem:deadline-exceeded")
        refused: list[httpx.Response] = []

        def full() -> bool:
            refused.append(ask(*["shares"] * 10))
            return refused[-1].status_code == 429

        with Occupying(client, hold.text):
            until(full)
        assert refused[-1].headers["retry-after"] == "1"
        hold.release()
        until(lambda: ask(*["shares"] * 20).status_code == 200)  # when what was given up has been computed


def test_a_body_that_does_not_come_is_not_waited_for_nor_one_too_large(served: Served, tmp_path: Path) -> None:
    with gateways.gateway(tmp_path, served.server.ports, request_timeout=0.5, max_file_mib=1) as client:
        port = client.base_url.port
        assert port is not None
        with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
            head = (
                "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\n"
                "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n"
            )
            slow.sendall(head.encode() + b'{"text"')
            answer = b""
            while received := slow.recv(4096):
                answer += received
        with socket.create_connection(("127.0.0.1", port), timeout=0.1) as dribbling:
            dribbling.sendall(head.encode() + b'{"text"')
            dribbled = b""
            for _ in range(50):
                with suppress(TimeoutError):
                    dribbled = dribbling.recv(4096)
                    break
                dribbling.sendall(b" ")
        file = b"text\n" + b"shares\n" * 2**18
        large = [
            client.post("/v1/classify/file", content=file, headers={"Content-Type": "text/csv"}),
            client.post("/v1/classify/file", content=iter([file[:9], file[9:]]), headers={"Content-Type": "text/csv"}),
            client.post("/v1/classify/file", files={"file": ("a.csv", file, "text/csv")}),
        ]
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:newsdesk:problem:slow-request" in answer
    assert dribbled.startswith(b"HTTP/1.1 408 ")
    assert [(refusal.status_code, "1 MiB" in refusal.json()["detail"]) for refusal in large] == [(413, True)] * 3


class Occupying(Callers):
    """A caller of one text, who asks again as soon as it has been given up."""

    def __init__(self, client: httpx.Client, text: str) -> None:
        super().__init__(self._ask)
        self._client, self._text = client, text

    def _ask(self) -> None:
        while not self._over.is_set():
            self._client.post("/v1/classify", json={"text": self._text})

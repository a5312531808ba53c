"""The standalone server in this process, before a tiny model."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime.classifier import BatchAnswers, Classifier, Work
from newsdesk.server.runtime.unsure import STEPS, Unsure
from newsdesk.server.standalone import protocol
from newsdesk.server.standalone.web import MAX_BODY, Server
from tests import tiny

MODEL = "/v2/models/ag_news"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tiny")
    running = Server(("127.0.0.1", 0), Classifier(tiny.write(folder), folder), "ag_news", "1")
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def ask(server: Server, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    try:
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request("GET" if body is None else "POST", path, raw, headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    return response.status, json.loads(content) if content else None


def request(*texts: str, **more: Any) -> dict[str, Any]:
    tensor = {"name": "TEXT", "shape": [len(texts), 1], "datatype": "BYTES", "data": list(texts)}
    return {"inputs": [tensor], **more}


def columns(answer: dict[str, Any]) -> dict[str, Any]:
    return {output["name"]: output for output in answer["outputs"]}


def test_it_answers_as_the_classifier_does(server: Server) -> None:
    status, answer = ask(server, f"{MODEL}/infer", request("market shares", "a goal", id="7"))
    assert (status, answer["id"], answer["model_name"]) == (200, "7", "ag_news")
    outputs = columns(answer)
    assert list(outputs) == ["LABEL", "PROBABILITIES", "ANSWERED_BY", "WINDOWS"]
    assert outputs["LABEL"] == {"name": "LABEL", "datatype": "BYTES", "shape": [2, 1], "data": ["Business", "Sports"]}
    assert outputs["PROBABILITIES"]["shape"] == [2, 4]
    expected = server.classifier.classify(["market shares", "a goal"]).probabilities
    assert np.allclose(np.reshape(outputs["PROBABILITIES"]["data"], (2, 4)), expected, atol=1e-6)
    assert outputs["ANSWERED_BY"]["data"] == ["tiny", "tiny"]
    assert (outputs["WINDOWS"]["shape"], outputs["WINDOWS"]["data"]) == ([2, 1], [1, 1])


def test_outputs_are_those_asked_for(server: Server) -> None:
    wanted = [{"name": "MEMBER_PROBABILITIES"}, {"name": "LABEL"}]
    body = request("robot software", outputs=wanted)
    body["inputs"].append({"name": "QUALITY", "shape": [1, 1], "datatype": "BYTES", "data": ["best"]})
    _, answer = ask(server, f"{MODEL}/versions/1/infer", body)
    outputs = columns(answer)
    assert list(outputs) == ["MEMBER_PROBABILITIES", "LABEL"]
    assert outputs["MEMBER_PROBABILITIES"]["shape"] == [1, 1, 4]


def test_it_says_how_uncertain_it_is_and_what_is_not_sure(server: Server, tmp_path: Path) -> None:
    """The model says when it is not sure; another has no such output."""
    body = request("robot software", "said", outputs=[{"name": "UNSURE"}, {"name": "UNCERTAINTY"}])
    status, answer = ask(server, f"{MODEL}/infer", body)
    assert (status, answer["error"]) == (400, "no output 'UNSURE': this model does not say when it is not sure")
    marked = Unsure(score="entropy", share=0.02, **dict.fromkeys(QUALITIES, [1.0] * STEPS))
    running = Server(("127.0.0.1", 0), Classifier(tiny.write_cascade(tmp_path, marked), tmp_path), "ag_news", "1")
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        values = columns(ask(running, f"{MODEL}/infer", body)[1])
        outputs = {
            output["name"]: (output["datatype"], output["shape"]) for output in ask(running, MODEL)[1]["outputs"]
        }
        by_default = columns(ask(running, f"{MODEL}/infer", request("said"))[1])
    finally:
        running.shutdown()
        running.server_close()
        thread.join()
    assert values["UNSURE"] == {"name": "UNSURE", "datatype": "BOOL", "shape": [2, 1], "data": [False, True]}
    assert values["UNCERTAINTY"]["shape"] == [2, 3]
    assert values["UNCERTAINTY"]["data"][3:] == pytest.approx([np.log(4), np.log(4), 0], abs=1e-5)
    assert (outputs["UNSURE"], outputs["UNCERTAINTY"]) == (("BOOL", [-1, 1]), ("FP32", [-1, 3]))
    assert [*by_default] == ["LABEL", "PROBABILITIES", "ANSWERED_BY", "WINDOWS", "UNSURE"]


@pytest.mark.parametrize(
    "path",
    ["/v2", "/v2/models/stats", "/v2/health/live", "/v2/health/ready", MODEL, f"{MODEL}/ready", f"{MODEL}/versions/1"],
)
def test_it_says_how_it_is(server: Server, path: str) -> None:
    assert ask(server, path)[0] == 200


def test_the_metadata_is_that_of_the_contract(server: Server) -> None:
    about = ask(server, MODEL)[1]
    assert [tensor["name"] for tensor in about["inputs"]] == ["TEXT", "QUALITY"]
    assert {output["name"]: output["shape"] for output in about["outputs"]}["MEMBER_PROBABILITIES"] == [-1, 1, 4]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"{", "not an inference request"),
        (b"[1]", "not an inference request"),
        ({"inputs": []}, "expected TEXT"),
        (request(), "0 strings, expected 1 to 64"),
        (request(*["x"] * 65), "65 strings, expected 1 to 64"),
        (request("a", "b", outputs=[{"name": "LOGITS"}]), "no output 'LOGITS', expected of LABEL"),
        (request("fine", "\u0000 "), "text 1: empty"),
        (request("a", outputs=[{"name": "LABEL", "parameters": {"binary_data": True}}]), "send plain JSON"),
        (request("a", outputs=[{"name": "PROBABILITIES", "parameters": {"classification": 2}}]), "classification"),
        ({"inputs": [{"name": "TEXT", "shape": [1], "datatype": "FP32", "data": [1.0]}]}, "FP32, expected BYTES"),
        ({"inputs": [{"name": "TEXT", "shape": [1], "datatype": "BYTES", "data": [1]}]}, "expected strings"),
        ({"inputs": [{"name": "TEXT", "shape": [2, 1], "datatype": "BYTES", "data": ["a"]}]}, "expected [1, 1]"),
        (
            {
                "inputs": [
                    *request("a")["inputs"],
                    {"name": "QUALITY", "shape": [1, 1], "datatype": "BYTES", "data": ["good"]},
                ]
            },
            "expected one of fast, balanced, best",
        ),
    ],
)
def test_a_bad_request_is_refused_with_the_reason(server: Server, body: Any, complaint: str) -> None:
    status, answer = ask(server, f"{MODEL}/infer", body)
    assert status == 400
    assert complaint in answer["error"]
    assert ask(server, f"{MODEL}/infer", request("a goal"))[0] == 200


def test_what_is_not_there_is_said(server: Server) -> None:
    assert ask(server, "/v2/models/other/infer", request("a"))[0] == 404
    assert ask(server, f"{MODEL}/stats")[0] == 404
    assert ask(server, f"{MODEL}/infer", b"{}", **{"Inference-Header-Content-Length": "2"})[0] == 400


def test_a_body_without_an_end_or_beyond_the_limit_is_not_read(server: Server) -> None:
    for header, status in ("", 411), (f"Content-Length: {MAX_BODY + 1}\r\n", 413), ("Content-Length: -1\r\n", 411):
        with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=10) as raw:
            raw.sendall(f"POST {MODEL}/infer HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
            answer = b"".join(iter(lambda: raw.recv(4096), b""))  # it ends the connection
        assert answer.startswith(f"HTTP/1.1 {status}".encode())


def test_many_at_once_get_their_own_answers(server: Server) -> None:
    words = list(tiny.WORDS)

    def answers_right(i: int) -> bool:
        word = words[i % len(words)]
        status, answer = ask(server, f"{MODEL}/infer", request(f"{word} {i}"))
        return status == 200 and columns(answer)["LABEL"]["data"] == [tiny.LABELS[tiny.WORDS[word]]]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(answers_right, range(200)))


def test_an_engine_that_fails_fails_its_request_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(server.classifier, "classify", broken)
    status, answer = ask(server, f"{MODEL}/infer", request("a goal"))
    assert (status, answer["error"]) == (500, "newsdesk could not compute: out of memory")
    monkeypatch.undo()
    assert ask(server, f"{MODEL}/infer", request("a goal"))[0] == 200


def test_no_number_is_an_error(tmp_path: Path) -> None:
    running = Server(("127.0.0.1", 0), Classifier(tiny.write(tmp_path, weight=float("nan")), tmp_path), "ag_news", "1")
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        status, answer = ask(running, f"{MODEL}/infer", request("a goal"))
        assert (status, answer["error"]) == (500, "newsdesk computed no finite answer")
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_members_nan_is_an_error_behind_a_finite_answer(server: Server, value: float) -> None:
    """The request whose text it is fails; the other one of the batch is answered."""
    finite = [[0.25, 0.75], [0.25, 0.75]]
    members = np.array([[[0.5, 0.5]], [[0.5, value]]], np.float32)
    levels, windows, words = np.zeros(2, np.int64), np.ones(2, np.int32), np.ones(2, np.int64)
    answers = BatchAnswers(np.array(finite, np.float32), levels, windows, members, words, np.zeros(2), Work())
    asked = protocol.RequestContent(["a goal"], np.array([1]), ["PROBABILITIES"], "")
    answered = json.loads(protocol.write("ag_news", asked, server.classifier, answers, slice(0, 1)))
    assert answered["outputs"][0]["data"] == [0.25, 0.75]
    with pytest.raises(protocol.RequestError, match="no finite answer") as refused:
        protocol.write("ag_news", asked, server.classifier, answers, slice(1, 2))
    assert refused.value.status == 500

import json
import threading
from pathlib import Path

import httpx
import hypothesis
import pytest
from hypothesis import strategies

from newsdesk.clients import Prediction, TextRefused
from newsdesk.server.gateway import explain
from tests.holding import Hold
from tests.server.gateway import gateways
from tests.server.gateway.conftest import Served
from tests.server.gateway.test_classify import items


def test_the_words_and_what_the_label_loses_without_them(open_gateway: httpx.Client) -> None:
    text = "😀 The shares 5000 match"
    (item,) = items(open_gateway, text, explain=True)
    words = {word["text"]: word for word in item["words"]}
    assert list(words) == ["😀", "The", "shares", "5000", "match"]
    assert all(text[word["start"] : word["end"]] == word["text"] for word in item["words"])
    assert item["label"] == "Sports"
    for word in item["words"]:
        without = text[: word["start"]] + text[word["end"] :]
        (other,) = items(open_gateway, without)
        lost = item["probabilities"]["Sports"] - other["probabilities"]["Sports"]
        assert word["drop"] == pytest.approx(lost, abs=1e-6)
    assert words["match"]["drop"] > 0.5
    assert words["shares"]["drop"] == 0


def test_with_the_other_choices(open_gateway: httpx.Client) -> None:
    """The same quality, with one label and what the members said; without them, none of it."""
    asked = {"explain": True, "top_k": 1, "members": True, "quality": "best"}
    (item,) = items(open_gateway, {"title": "treaty", "description": "of 5000"}, **asked)
    assert list(item["probabilities"]) == ["World"]
    assert [word["text"] for word in item["words"]] == ["treaty", "of", "5000"]
    assert item["words"][2]["drop"] > 0
    assert item["members"]["stand-in"]["World"] == pytest.approx(0.75)
    assert item["windows"] == 1
    assert items(open_gateway, "treaty of 5000")[0].keys() == {
        "index",
        "label",
        "probabilities",
        "answered_by",
        "windows",
        "unsure",
        "version",
    }


def test_nothing_to_leave_out(open_gateway: httpx.Client) -> None:
    """Not of one word, of a refused text, or of a word beside which nothing can be seen."""
    answers = items(open_gateway, ["shares", "", "shares chip"], explain=True)
    assert answers[0]["words"] == []
    assert "words" not in answers[1]
    assert len(answers[2]["words"]) == 2
    item = Prediction(0, "a", {"a": 0.75}, "m")
    answered = explain.explained("x y", item, explain.spans("x y"), [TextRefused(0, "empty"), item])
    assert [word.text for word in answered.words] == ["y"]


def test_a_long_text_has_a_bounded_number_of_spans(open_gateway: httpx.Client) -> None:
    text = " ".join(["word"] * 500 + ["shares"] + ["word"] * 500)
    (item,) = items(open_gateway, text, explain=True)
    assert len(item["words"]) <= explain.MOST_SPANS
    (most,) = [word for word in item["words"] if word["drop"] > 0]
    assert "shares" in most["text"]
    assert item["windows"] == items(open_gateway, text)[0]["windows"]


@hypothesis.given(strategies.text(strategies.sampled_from("ab é\t\n😀\u2003"), max_size=400))
def test_spans_hold_every_word_once_in_order(text: str) -> None:
    spans = explain.spans(text)
    words = text.split()
    assert len(spans) <= explain.MOST_SPANS
    if len(words) < 2:
        assert spans == []
        return
    assert [word for start, end in spans for word in text[start:end].split()] == words
    assert all(explain.without(text, span).strip() for span in spans)


def test_the_texts_of_an_explanation_count(served: Served, tmp_path: Path, hold: Hold) -> None:
    """Too many at once are told so, and where the queue is full it is 429: they are texts as any other."""
    with gateways.gateway(tmp_path, served.server.ports, max_queue=40, max_texts=130) as client:
        assert len(items(client, ["the shares"] * 2, explain=True)) == 2
        many = client.post("/v1/classify", json={"text": ["the shares"] * 3, "explain": True})
        assert (many.status_code, many.json()["type"]) == (413, "urn:newsdesk:problem:too-large")
        assert "at most 2 are explained at once" in many.json()["detail"]
        before = (
            client.get("/metrics")
            .text.split('newsdesk_gateway_texts_total{model="ag_news",outcome="answered"} ')[1]
            .split("\n")[0]
        )
        assert float(before) == 2  # callers' texts only
        held = threading.Thread(target=client.post, args=("/v1/classify",), kwargs={"json": {"text": hold.text}})
        held.start()
        hold.until_computing()
        full = client.post("/v1/classify", json={"text": " ".join(["word"] * 60), "explain": True})
        hold.release()
        held.join()
    assert full.status_code == 429


def test_quality_and_members_for_a_file(open_gateway: httpx.Client) -> None:
    lines = open_gateway.post(
        "/v1/classify/file?members=true&quality=best",
        content=b"text\nshares 5000\n",
        headers={"Content-Type": "text/csv"},
    ).text.splitlines()
    (item,) = items(open_gateway, "shares 5000", members=True, quality="best")
    assert [json.loads(line) for line in lines] == [item | {"line": 2}]
    assert open_gateway.post("/v1/classify/file?quality=good", content=b"text\na\n").status_code == 422

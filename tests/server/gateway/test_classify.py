import asyncio
import json

import aiohttp
import httpx
import pytest

from newsdesk.server.serving import load
from tests.headlines import unique
from tests.server.gateway.conftest import Served
from tests.server.gateway.gateways import JSON


def items(client: httpx.Client, text: object, **more: object) -> list[dict]:
    answer = client.post("/v1/classify", json={"text": text, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def test_one_text(open_gateway: httpx.Client) -> None:
    (item,) = items(open_gateway, "shares 5000")
    assert item["index"] == 0
    assert item["label"] == "Business"
    assert item["probabilities"]["Business"] == pytest.approx(0.75)
    assert sum(item["probabilities"].values()) == pytest.approx(1)
    assert list(item["probabilities"].values()) == sorted(item["probabilities"].values(), reverse=True)
    assert item["answered_by"] == "stand-in"


def test_what_is_not_sure_is_marked(open_gateway: httpx.Client) -> None:
    request = {"text": ["match lol", "match", ""]}
    items = open_gateway.post("/v1/classify", json=request).json()["items"]
    assert [item.get("unsure") for item in items] == [True, False, None]
    assert "uncertainty" not in items[0]
    items = open_gateway.post("/v1/classify", json={**request, "uncertainty": True}).json()["items"]
    assert items[1]["uncertainty"] == {"total": 0.75, "data": 0.5, "model": 0.25}
    assert open_gateway.post("/v1/classify", json={**request, "uncertainty": 1}).status_code == 422


def test_articles_and_top_k(open_gateway: httpx.Client) -> None:
    articles = [{"title": "The match", "description": "of 1"}, {"title": "treaty 2"}, "chip 3"]
    answers = items(open_gateway, articles, top_k=1)
    assert [list(item["probabilities"]) for item in answers] == [["Sports"], ["World"], ["Sci/Tech"]]


def test_bad_texts_have_their_error_in_their_place(open_gateway: httpx.Client) -> None:
    """B 24."""
    answers = items(open_gateway, ["shares 1", "", "match 2", " \n", "x" * 300_000, "treaty 3"])
    assert [item["index"] for item in answers] == list(range(6))
    assert [item.get("label") for item in answers] == ["Business", None, "Sports", None, None, "World"]
    assert answers[1]["error"] == "empty, expected at least one visible character"
    assert answers[4]["error"] == "300000 bytes, expected at most 262144, send a shorter text"
    assert items(open_gateway, "")[0]["error"] == "empty, expected at least one visible character"
    assert items(open_gateway, []) == []


def test_a_thousand_at_once_each_get_their_own_answer(open_gateway: httpx.Client) -> None:
    """A 5, 13, B 23, 24: order kept, in lists and across requests, bad ones among them."""
    texts = ["" if i % 50 == 7 else f"shares {i} {text}" for i, text in enumerate(unique(1000))]
    alone = [item.get("probabilities") for item in items(open_gateway, texts)]

    async def classify(session: aiohttp.ClientSession, text: str) -> dict | None:
        async with session.post("/v1/classify", json={"text": text}, raise_for_status=True) as answer:
            return (await answer.json())["items"][0].get("probabilities")

    async def all_at_once() -> list[dict | None]:
        async with aiohttp.ClientSession(str(open_gateway.base_url)) as session:
            return await asyncio.gather(*(classify(session, text) for text in texts))

    assert asyncio.run(all_at_once()) == alone
    assert sum(answer is None for answer in alone) == 20


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "not JSON"),
        (b'{"text": "a', 400, "not JSON"),
        (b'{"text": "\xff"}', 400, "not JSON"),
        (b'{"text": "\\ud800"}', 400, "not JSON"),
        (b"[" * 100_000, 400, "nested more than 32 deep"),
        (b'{"text": "a", "more": ' + b'{"a":' * 33, 400, "nested more than 32 deep"),
        (b'{"text": [' + b"1," * 10_000 + b"1]}", 422, "text.list.0: expected a text"),
        (b'{"text": [' + b"1," * 400_000 + b"1]}", 413, "more than 36384 values"),
        (b'{"text": [' + b'"a" ' * 40_000 + b"]}", 400, "not JSON"),
        (b"null", 422, "The body: Input should be an object"),
        (b"[]", 422, "The body: Input should be an object"),
        (b"{}", 422, "text: Field required"),
        (b'{"text": 5}', 422, "text: expected a text, an object of title and description, or a list"),
        (b'{"text": [["a"]]}', 422, "text.list.0: expected a text, or an object of"),
        (b'{"text": {"description": "a"}}', 422, "text.article.title: Field required"),
        (b'{"text": "a", "quality": 1}', 422, "quality"),
        (b'{"text": "a", "top_k": 0}', 422, "top_k"),
        (b'{"text": "a", "top_k": NaN}', 422, "top_k"),
        (b'{"text": "a", "top_k": 1e400}', 422, "top_k"),
        (b'{"text": "a", "top_k": ' + b"9" * 4000 + b"}", 422, "top_k"),
        (b'{"text": "a", "top_k": ' + b"9" * 5000 + b"}", 400, "not JSON"),
    ],
    ids=range(21),
)
def test_wrong_bodies(open_gateway: httpx.Client, body: bytes, status: int, says: str) -> None:
    """A 6."""
    answer = open_gateway.post("/v1/classify", content=body, headers=JSON)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert says in problem["detail"]
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert items(open_gateway, "shares")


def test_brackets_in_a_text_are_no_structure(open_gateway: httpx.Client) -> None:
    text = 'shares [[{{ "quoted\\" ]' * 2000
    assert items(open_gateway, [text] * 2)[1]["label"] == "Business"


def test_wrong_types_routes_and_methods(open_gateway: httpx.Client) -> None:
    wrong = [
        (open_gateway.post("/v1/classify", content=b"{}", headers={"Content-Type": "text/plain"}), 415),
        (open_gateway.post("/v1/classify", content=b"{}"), 415),
        (open_gateway.get("/v1/nothing"), 404),
        (open_gateway.get("/v1/classify"), 405),
        (open_gateway.get("/v1/labels/"), 404),
        (open_gateway.post("/v1/classify/", json={"text": "a"}), 404),  # a redirection would send a key on
    ]
    for answer, status in wrong:
        assert answer.status_code == status == answer.json()["status"]
        assert answer.headers["content-type"] == "application/problem+json"


def test_limits_of_size(open_gateway: httpx.Client) -> None:
    too_many = open_gateway.post("/v1/classify", json={"text": ["a"] * 1025})
    assert (too_many.status_code, too_many.json()["type"]) == (413, "urn:newsdesk:problem:too-large")
    body = json.dumps({"text": "a" * 2**20}).encode()
    announced = open_gateway.post("/v1/classify", content=body, headers=JSON)
    chunked = open_gateway.post("/v1/classify", content=iter([body[:1000], body[1000:]]), headers=JSON)
    for answer in announced, chunked:
        assert answer.status_code == 413
        assert "1 MiB" in answer.json()["detail"]


def test_a_failing_model_is_said_so_and_others_are_answered(open_gateway: httpx.Client) -> None:
    answer = open_gateway.post("/v1/classify", json={"text": "stand-in, fail"})
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:newsdesk:problem:model-failed")
    assert "127.0.0.1" not in answer.text
    assert items(open_gateway, "shares")


def test_single_texts_that_come_at_once_share_requests(served: Served, open_gateway: httpx.Client) -> None:
    def requests() -> float:
        exposition = httpx.get(f"http://127.0.0.1:{served.server.ports[2]}/metrics").text
        return float(exposition.split('nv_inference_request_success{model="ag_news",version="1"} ')[1].split("\n")[0])

    url, before = open_gateway.base_url, requests()
    bodies = [json.dumps({"text": f"shares {i}"}).encode() for i in range(500)]
    assert url.port
    reading = load.run(
        "127.0.0.1", url.port, load.encode("127.0.0.1", url.port, "/v1/classify", bodies), 64, seconds=1, warm_up=0
    )
    assert reading.failures == 0
    assert 0 < requests() - before < 0.7 * reading.answers

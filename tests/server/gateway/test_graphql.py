import asyncio
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from tests.launching import LABELS
from tests.server.gateway.conftest import Served
from tests.server.gateway.gateways import JSON

CLASSIFY = """
query ($texts: [String!]!, $topK: Int, $quality: Quality, $members: Boolean! = false, $explain: Boolean! = false,
  $uncertainty: Boolean! = false) {
  classify(texts: $texts, topK: $topK, quality: $quality, members: $members, explain: $explain,
    uncertainty: $uncertainty) {
    index label probabilities { label probability } answeredBy windows error unsure uncertainty { total data model }
    members { name probabilities { label probability } } words { text start end drop }
  }
}
"""


def ask(client: httpx.Client, query: str, **variables: Any) -> dict[str, Any]:
    answer = client.post("/graphql", json={"query": query, "variables": variables})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_same_answers_as_by_rest(reader: httpx.Client) -> None:
    texts = ["shares 5000", "", "match 7"]
    by_rest = reader.post("/v1/classify", json={"text": texts, "top_k": 2}).json()["items"]
    answers = ask(reader, CLASSIFY, texts=texts, topK=2)["data"]["classify"]
    assert [answer["label"] for answer in answers] == ["Business", None, "Sports"]
    for answer, other in zip(answers, by_rest, strict=True):
        scores = {score["label"]: score["probability"] for score in answer["probabilities"]}
        assert (answer["index"], answer["error"]) == (other["index"], other.get("error"))
        assert (scores, answer["answeredBy"]) == (other.get("probabilities", {}), other.get("answered_by"))


def test_labels_and_models(reader: httpx.Client) -> None:
    data = ask(reader, "{ labels models }")["data"]
    assert data["labels"] == LABELS
    assert data["models"] == reader.get("/v1/models").json()["models"]


def test_all_that_rest_takes(reader: httpx.Client) -> None:
    asked = {"quality": "best", "members": True, "explain": True, "uncertainty": True}
    (answer,) = ask(reader, CLASSIFY, texts=["the shares 5000"], **asked)["data"]["classify"]
    (other,) = reader.post("/v1/classify", json={"text": "the shares 5000", **asked}).json()["items"]
    members = {
        member["name"]: {score["label"]: score["probability"] for score in member["probabilities"]}
        for member in answer["members"]
    }
    assert (answer["windows"], answer["answeredBy"]) == (other["windows"], other["answered_by"])
    assert (members, answer["words"]) == (other["members"], other["words"])
    assert (answer["unsure"], answer["uncertainty"]) == (other["unsure"], other["uncertainty"])
    assert answer["uncertainty"] == {"total": 0.75, "data": 0.5, "model": 0.25}
    assert ask(reader, CLASSIFY, texts=["shares"], quality="good")["errors"]


@pytest.mark.parametrize(
    ("variables", "kind"),
    [
        ({"texts": ["stand-in, fail"]}, "model-failed"),
        ({"texts": ["a"], "topK": 0}, "invalid"),
        ({"texts": ["a"] * 301}, "too-large"),
    ],
)
def test_errors_carry_their_kind(reader: httpx.Client, variables: dict[str, Any], kind: str) -> None:
    (error,) = ask(reader, CLASSIFY, **variables)["errors"]
    assert error["extensions"]["type"] == kind


@pytest.mark.parametrize(
    "query",
    [
        "{",
        "{ nothing }",
        "{ " + " ".join(f'a{i}: classify(texts: ["a"]) {{ label }}' for i in range(20)) + " }",
    ],
)
def test_queries_that_are_wrong(reader: httpx.Client, query: str) -> None:
    assert ask(reader, query)["errors"]


def nested(levels: int) -> str:
    """Return a query whose fragments double the fields at each level."""
    fragments = [f"fragment F{i} on Query {{ ...F{i + 1} ...F{i + 1} }}" for i in range(levels)]
    return "{ ...F0 } " + " ".join(fragments) + f" fragment F{levels} on Query {{ labels }}"


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("{ labels " + "__typename " * 11_000 + "}", 413, "more than 400 names"),
        ("{ classify(texts: [" + '"a" ' * 11_000 + "]) { label } }", 413, "more than 10000 tokens"),
        (nested(30), 413, "more than 16 uses of fragments"),
        ("{ a " * 1000, 400, "nested more than 32 deep"),
        ("{ classify(texts: " + "[" * 10_000, 400, "nested more than 32 deep"),
    ],
    ids=range(5),
)
def test_queries_that_are_too_much_are_refused_before_anything_walks_through_them(
    reader: httpx.Client, query: str, status: int, detail: str
) -> None:
    answer = reader.post("/graphql", json={"query": query}, timeout=5)
    assert answer.status_code == status
    assert detail in answer.json()["detail"]


def test_the_most_nested_fragments_that_are_taken_are_answered(reader: httpx.Client) -> None:
    answer = reader.post("/graphql", json={"query": nested(7)}, timeout=5)
    assert answer.json()["data"]["labels"] == LABELS


@pytest.mark.parametrize(
    "body",
    [b"5", b"null", b'"x"', b"[]", b"{}", b'{"query": 5}', b'{"query": "{ labels }", "variables": 5}', b"[" * 200_000,
     b'{"query": "{ labels }", "variables": {"a": ' + b"1" * 5000 + b"}}", b'{"query": "{ labels }", "q": "\xff"}',
     b'{"query": "{ labels }", "variables": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001],
    ids=range(11),
)  # fmt: skip
def test_bodies_that_are_no_query(reader: httpx.Client, body: bytes) -> None:
    answer = reader.post("/graphql", content=body, headers=JSON)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), answer.text


def test_there_is_no_other_way_in(served: Served) -> None:
    async def run() -> None:
        address = served.url.replace("http://", "ws://") + "/graphql"
        async with connect(address, subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None):
            pass

    with pytest.raises(InvalidStatus):
        asyncio.run(run())


def test_access_and_log(served: Served, reader: httpx.Client) -> None:
    assert httpx.post(f"{served.url}/graphql", json={"query": "{ labels }"}).status_code == 401
    assert reader.get("/graphql", params={"query": "{ labels }"}).status_code in (400, 404, 405)
    ask(reader, '{ classify(texts: ["Timbuktu", 5, "stand-in, fail"]) { nothing } }')
    (log,) = (served.server.state / "log").glob("gateway-*.log")
    assert "Timbuktu" not in log.read_text()

"""The one table from an error to a status, and what a caller reads of it."""

import json
from http import HTTPStatus

import pytest
from starlette.exceptions import HTTPException

from newsdesk.clients import errors
from newsdesk.server.gateway import problems

URL = "grpc://127.0.0.1:8001"
FULL = "[request id: <id_unknown>] Exceeds maximum queue size"
"""Triton's own words where its queue is full; gRPC's status is UNAVAILABLE."""


@pytest.mark.parametrize(
    ("error", "status", "kind", "headers"),
    [
        (errors.late(URL), 504, "deadline-exceeded", {}),
        (errors.unavailable(URL, "refused"), 503, "unavailable", {"Retry-After": "1"}),
        (errors.error_of("NOT_FOUND", "no model", URL), 503, "unavailable", {"Retry-After": "1"}),
        (errors.BadResponse("no labels"), 500, "model-failed", {}),
        (errors.Incomplete("no labels"), 500, "model-failed", {}),
        (errors.error_of("INTERNAL", "no finite answer", URL), 500, "model-failed", {}),
        # The queue of the model is full, and the server is sound: the caller is asked to come later.
        (errors.error_of("UNAVAILABLE", FULL, URL), 429, "too-many-requests", {"Retry-After": "1"}),
        (errors.error_of(503, FULL, URL), 429, "too-many-requests", {"Retry-After": "1"}),
    ],
)
def test_each_error_has_its_status(
    error: errors.NewsdeskError, status: int, kind: str, headers: dict[str, str]
) -> None:
    problem = problems.problem_of(error)
    assert (problem.status_code, problem.headers) == (status, headers)
    document = problems.describe(problem, "0a1b")
    assert document["type"] == f"urn:newsdesk:problem:{kind}"
    assert (document["status"], document["title"]) == (status, HTTPStatus(status).phrase)
    assert document["request_id"] == "0a1b"
    assert document["detail"] == document["error"] == problem.detail
    assert URL not in problem.detail


@pytest.mark.parametrize(("seconds", "header"), [(-3, "1"), (0, "1"), (1, "1"), (2, "2"), (47, "47")])
def test_who_comes_too_often_is_told_when_to_come_back(seconds: int, header: str) -> None:
    assert problems.TooMany("wait", seconds).headers == {"Retry-After": header}


def test_a_response_carries_the_problem_and_its_headers() -> None:
    response = problems.respond(problems.TooMany("The limit of 2 per 1 minute is reached.", 47), "0a1b")
    assert (response.status_code, response.headers["retry-after"]) == (429, "47")
    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(response.body)["detail"] == "The limit of 2 per 1 minute is reached."


def test_what_a_problem_repeats_is_bounded_and_readable() -> None:
    assert problems.Invalid("x" * 3000).detail == "x" * 2000
    assert problems.Invalid("half \ud83d").detail == "half ?"


def test_a_problem_says_more_and_a_strangers_error_has_a_type_too() -> None:
    assert problems.describe(problems.Invalid("no", places=["text"]), "")["places"] == ["text"]
    assert problems.describe(HTTPException(405, "no"), "")["type"] == "urn:newsdesk:problem:http-405"

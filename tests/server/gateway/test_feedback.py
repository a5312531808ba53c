"""Corrections: which are kept, as what, for whom, and what happens where there is no room."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from newsdesk.server.gateway import feedback
from newsdesk.server.gateway.feedback import Feedback
from newsdesk.server.gateway.problems import Full, Unavailable
from newsdesk.server.gateway.settings import GatewaySettings
from newsdesk.server.serving.gateway import _feedback
from tests.server.gateway.conftest import Served
from tests.server.gateway.gateways import logged

TEXT = "shares of the tests of feedback"


def of_test(folder: Path, text: str) -> list[dict[str, Any]]:
    """Return the lines with a text; other tests' are in the file, too."""
    file = folder / "feedback" / "ag_news.jsonl"
    return [line for line in logged(file) if line["text"] == text] if file.exists() else []


def test_a_correction_is_a_line(open_gateway: httpx.Client, open_folder: Path) -> None:
    correction = {"text": TEXT, "label": "World", "predicted": "Business", "note": "a treaty"}
    answer = open_gateway.post("/v1/feedback", json=correction, headers={"X-Request-ID": "of-the-test"})
    assert (answer.status_code, answer.json()) == (200, {"kept": 1})
    (line,) = of_test(open_folder, TEXT)
    assert line.pop("corrected_at").endswith("Z")
    caller = {"model": "ag_news", "caller": "address:127.0.0.1", "request_id": "of-the-test"}
    assert line == {**correction, **caller}
    file = open_folder / "feedback" / "ag_news.jsonl"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    several = [{"text": {"title": "A title", "description": "of feedback"}, "label": "Sports"}] * 2
    assert open_gateway.post("/v1/models/ag_news/feedback", json=several).json() == {"kept": 2}
    assert [line["label"] for line in of_test(open_folder, "A title of feedback")] == ["Sports", "Sports"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"text": "x", "label": "Weather"}, 422, "label: 'Weather' is no label of the model: World, Sports"),
        ([{"text": "x", "label": "World"}, {"text": " ", "label": "World"}], 422, "1.text: empty, expected"),
        ({"text": "x" * 300_000, "label": "World"}, 422, "text: 300,000 bytes, expected at most 256 KiB"),
        ({"text": "x", "label": "World", "note": "n" * 2001}, 422, "note"),
        ({"text": "x", "label": "World", "unknown": 1}, 422, "unknown"),
        ({"text": "x"}, 422, "label"),
        ([], 422, "at least 1"),
        ("x", 422, ""),
        ([{"text": "x", "label": "World"}] * 2000, 413, "at most 1024 are taken at once"),
    ],
    ids=["label", "empty", "long", "note", "unknown", "no label", "none", "text", "many"],
)
def test_what_cannot_be_learned_from_is_refused_whole(
    open_gateway: httpx.Client, open_folder: Path, body: Any, status: int, says: str
) -> None:
    answer = open_gateway.post("/v1/feedback", json=body)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]
    assert of_test(open_folder, "x") == []


def test_half_a_character_is_no_text(open_gateway: httpx.Client) -> None:
    for field in "text", "note", "predicted":
        body = json.dumps({"text": "x", "label": "World", field: "\ud800"})
        answer = open_gateway.post("/v1/feedback", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, answer.text


def test_without_the_option_nothing_is_taken(served: Served, reader: httpx.Client) -> None:
    answer = reader.post("/v1/feedback", json={"text": TEXT, "label": "World"})
    assert answer.status_code == 404
    assert "newsdesk serve --feedback FOLDER" in answer.json()["detail"]
    assert httpx.post(f"{served.url}/v1/feedback", json={"text": TEXT, "label": "World"}).status_code == 401


def test_a_full_disk_is_said_and_nothing_else_fails(open_gateway: httpx.Client, open_folder: Path) -> None:
    folder = open_folder / "feedback"
    folder.mkdir(exist_ok=True)
    file, kept = folder / "ag_news.jsonl", folder / "kept"
    if file.exists():
        file.rename(kept)
    file.symlink_to("/dev/full")
    try:
        answer = open_gateway.post("/v1/feedback", json={"text": TEXT, "label": "World"})
        assert (answer.status_code, answer.json()["type"]) == (507, "urn:newsdesk:problem:insufficient-storage")
        assert open_gateway.post("/v1/classify", json={"text": TEXT}).status_code == 200
    finally:
        file.unlink()
        if kept.exists():
            kept.rename(file)
    assert open_gateway.post("/v1/feedback", json={"text": "room again", "label": "World"}).status_code == 200


def test_a_line_that_was_cut_off_is_replaced(tmp_path: Path) -> None:
    kept, file = Feedback(tmp_path / "new" / "folder"), tmp_path / "new" / "folder" / "m.jsonl"
    kept.append("m", [{"text": "first"}], {"caller": "x"})
    with file.open("a") as half:
        half.write('{"corrected_at": "2026-')
    kept.append("m", [{"text": "second"}, {"text": "third"}], {"caller": "x"})
    assert [line["text"] for line in logged(file)] == ["first", "second", "third"]
    file.write_text('{"corrected_at": "2026-')
    kept.append("m", [{"text": "fourth"}], {"caller": "x"})
    assert [line["text"] for line in logged(file)] == ["fourth"]


def test_a_file_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback, "MOST_BYTES", 250)
    kept = Feedback(tmp_path)
    kept.append("m", [{"text": "x" * 100}], {"caller": "x"})
    with pytest.raises(Full, match="moves it away"):
        kept.append("m", [{"text": "y" * 100}], {"caller": "x"})
    assert [line["text"] for line in logged(tmp_path / "m.jsonl")] == ["x" * 100]
    kept.append("other", [{"text": "y" * 100}], {"caller": "x"})
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(Unavailable):
        kept.append("folder", [{"text": "x"}], {"caller": "x"})


def test_writers_share_a_file(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for place in range(20):
            Feedback(tmp_path).append("m", [{"text": f"{number} {place} {'x' * 5000}"}] * 2, {})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({line["text"] for line in logged(tmp_path / "m.jsonl")}) == 80


def test_a_folder_that_cannot_be_written_is_said_before_it_serves(tmp_path: Path) -> None:
    def level(folder: Path | None) -> list[str]:
        return [check.level for check in _feedback(GatewaySettings(keys=tmp_path / "keys.json", feedback=folder))]

    (tmp_path / "file").write_text("")
    assert level(None) == []
    assert level(tmp_path / "new") == ["ok"]
    assert level(tmp_path / "file" / "below") == ["problem"]
    if os.geteuid():
        (tmp_path / "closed").mkdir(0o500)
        assert level(tmp_path / "closed") == ["problem"]

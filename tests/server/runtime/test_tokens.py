import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsdesk.server.contract import MAX_TEXT_BYTES
from newsdesk.server.runtime.tokens import Tokens
from tests import tiny


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    return folder / tiny.write(folder).members[0].tokenizer.path


def test_special_tokens_stand_around_and_count(tmp_path: Path) -> None:
    made = tiny.write(tmp_path)
    tokens = Tokens(tmp_path / made.members[0].tokenizer.path, 4)
    assert tokens.encode(["Minister", "minister goal market treaty", "unheard"]) == [[2, 4, 3], [2, 4, 7, 3], [2, 1, 3]]


@given(
    length=st.integers(1, 3000),
    most=st.integers(8, 64),
    overlap=st.floats(0, 0.9),
)
def test_windows_cover_every_token_and_overlap(tokenizer: Path, length: int, most: int, overlap: float) -> None:
    tokens = Tokens(tokenizer, most)
    words = list(tiny.WORDS)
    text = " ".join(words[i % 7] for i in range(length))  # seven follow one another: a gap or a repeat would show
    windows, (count,) = tokens.windows([text], overlap)
    assert len(windows) == count
    if length <= most - 2:
        assert windows == tokens.encode([text])
        return
    inner = [np.asarray(window)[1:-1] for window in windows]
    assert all(window[0] == 2 and window[-1] == 3 and len(window) == most for window in windows)
    whole = np.array([4 + i % 7 for i in range(length)])
    step = max(1, int((most - 2) * (1 - overlap)))
    covered = at = 0
    for place, window in enumerate(inner):
        # Where it stands: after the one before, at most a step on.
        steps = [s for s in range(step + 1) if np.array_equal(whole[at + s : at + s + most - 2], window)]
        assert steps, f"window {place} stands nowhere"
        at += 0 if place == 0 else max(steps)
        covered = at + most - 2
    assert np.array_equal(inner[0], whole[: most - 2])
    assert np.array_equal(inner[-1], whole[-(most - 2) :])
    assert count == 1 + -(-(length - (most - 2)) // step)  # as few as will do
    assert covered >= 0


def test_windows_of_several_texts_follow_one_another(tokenizer: Path) -> None:
    tokens = Tokens(tokenizer, 8)
    texts = ["goal", "market " * 20, "robot shares"]
    windows, counts = tokens.windows(texts, 0.25)
    assert counts.tolist() == [1, 5, 1]
    assert counts.dtype == windows[1].dtype == np.int64
    assert windows[0] == [2, 7, 3]
    assert all(set(window[1:-1]) == {8} for window in windows[1:6])
    assert windows[6] == [2, 10, 9, 3]
    _, _, lengths = tokens.read(texts, 0.25)
    assert (lengths.tolist(), lengths.dtype) == ([1, 20, 2], np.int64)  # without special tokens, however it is cut


def test_a_text_of_the_greatest_size_is_cut_in_linear_time(tokenizer: Path) -> None:
    """Quadratic time would be minutes."""
    tokens = Tokens(tokenizer, 256)
    began = time.process_time()
    windows, (count,) = tokens.windows(["a " * (MAX_TEXT_BYTES // 2)], 0.25)
    assert count == len(windows) == 1 + -(-(MAX_TEXT_BYTES // 2 - 254) // 190)
    assert time.process_time() - began < 5


def test_many_threads_get_their_own_ids(tmp_path: Path) -> None:
    """Field note 46: "Already borrowed" comes of changing a shared tokenizer; this one is never changed."""
    made = tiny.write(tmp_path)
    tokens = Tokens(tmp_path / made.members[0].tokenizer.path, tiny.MAX_LENGTH)
    words = list(tiny.WORDS)
    texts = [[" ".join(words[i % 8] for _ in range(1 + i % 40))] for i in range(400)]
    expected = [tokens.encode(text) for text in texts]
    with ThreadPoolExecutor(32) as threads:
        assert list(threads.map(tokens.encode, texts)) == expected

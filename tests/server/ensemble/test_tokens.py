from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from newsdesk.server.ensemble.tokens import Tokens
from tests import tiny


def test_special_tokens_stand_around_and_count(tmp_path: Path) -> None:
    made = tiny.write(tmp_path)
    tokens = Tokens(tmp_path / made.members[0].tokenizer.path, 4)
    assert tokens.encode(["Minister", "minister goal market treaty", "unheard"]) == [[2, 4, 3], [2, 4, 7, 3], [2, 1, 3]]


def test_many_threads_get_their_own_ids(tmp_path: Path) -> None:
    """Field note 46: "Already borrowed" comes of changing a shared tokenizer; this one is never changed."""
    made = tiny.write(tmp_path)
    tokens = Tokens(tmp_path / made.members[0].tokenizer.path, tiny.MAX_LENGTH)
    words = list(tiny.WORDS)
    texts = [[" ".join(words[i % 8] for _ in range(1 + i % 40))] for i in range(400)]
    expected = [tokens.encode(text) for text in texts]
    with ThreadPoolExecutor(32) as threads:
        assert list(threads.map(tokens.encode, texts)) == expected

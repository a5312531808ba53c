"""Hashed n-grams against a plain implementation that reads one byte after the other, in Python's own integers."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from newsdesk.server.runtime import ngrams
from newsdesk.server.runtime.errors import ManifestError
from newsdesk.server.runtime.ngrams import Features, Ngrams
from tests.headlines import TEXTS

WRAP = 1 << 64
EVERYTHING = Features(buckets=50_000, words=(1, 2, 3), parts=(3, 5), opening=4)
FEATURES = (
    Features(buckets=1 << 18),
    Features(words=(2,), buckets=7),
    Features(buckets=999, words=(), parts=(4,)),
    EVERYTHING,
)
GOLDEN = [
    13526, 151221, 32534, 25336, 178060, 222604, 38872, 174307, 43707, 20974, 145007, 244375, 217383, 225195,
    255105, 167726, 139500, 228127, 257587, 160105, 114498, 79562, 64483, 191812, 144752,
]  # fmt: skip
TEXT = st.text(st.sampled_from("abAZ019 $'-.é Ж’—\u2028中😀\x00\x7f\n\ud800"), max_size=40) | st.text(max_size=30)


def number(index: int) -> int:
    state = (index + 1) * 0x9E3779B97F4A7C15 % WRAP
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WRAP
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WRAP
    return (state ^ (state >> 31)) | 1


def polynomial(values: list[int], base: int) -> int:
    return sum(value * pow(base, power, WRAP) for power, value in enumerate(values)) % WRAP


def plain(features: Features, text: str) -> list[int]:
    """Return the ids of one text, the slow way."""
    raw = b" " + text.lower().encode("utf-8", "surrogatepass") + b" "
    for lead in (0x80, 0x81):
        for last in range(0x80, 0xC0):
            raw = raw.replace(bytes([0xE2, lead, last]), b"   ")
    words: list[bytes] = []
    joins = False
    for byte in raw:
        if byte <= 0x20 or byte == 0x7F:
            joins = False
        elif byte < 0x80 and not chr(byte).isalnum():
            words.append(bytes([byte]))
            joins = False
        elif joins:
            words[-1] += bytes([byte])
        else:
            words.append(bytes([byte]))
            joins = True
    base, step = int(ngrams._BASE), int(ngrams._STEP)
    hashed = [polynomial([number(byte) for byte in word], base) for word in words]
    mixtures = []
    for order in features.words:
        for at in range(len(hashed) - order + 1):
            mixtures.append(polynomial(hashed[at : at + order][::-1], step) + number(order))
    mixtures += [word + number(0) for word in hashed[: features.opening]]
    for length in features.parts:
        values = [number(b) if b >= 0x80 or chr(b).isalnum() else 1 for b in raw]
        for at in range(len(values) - length + 1):
            if 1 not in values[at + 1 : at + length - 1]:
                mixtures.append(polynomial(values[at : at + length], base) + number(16 - length))
    ids = []
    for mixture in mixtures:
        mixture %= WRAP
        mixed = (mixture ^ (mixture >> 32)) * int(ngrams._MIX) % WRAP
        ids.append(((mixed >> 32) * features.buckets >> 32) + 2)
    return ids or [1]


@pytest.mark.parametrize("features", FEATURES)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=5))
def test_a_batch_is_what_the_plain_way_makes_of_each_text(features: Features, texts: list[str]) -> None:
    assert [ids.tolist() for ids in Ngrams(features).encode(texts)] == [plain(features, text) for text in texts]


@pytest.mark.parametrize("size", [1, 60, ngrams.CHUNK - 1, ngrams.CHUNK, 3 * ngrams.CHUNK])
def test_a_text_reads_in_company_as_it_reads_alone(size: int) -> None:
    ngrams = Ngrams(EVERYTHING)
    texts = [*TEXTS, "x" * size, "?", *TEXTS, ("market falls " * size)[:size], "é" * size, *TEXTS]
    for text, ids in zip(texts, ngrams.encode(texts), strict=True):
        assert ids.tolist() == ngrams.encode([text])[0].tolist()


def test_the_numbers_of_bytes_are_those_of_the_plain_way() -> None:
    """Called anew: what the module made of them as it was imported tells of nothing."""
    assert ngrams._numbers(300).tolist() == [number(index) for index in range(300)]
    values, alone = ngrams._tables()
    assert len(values) == len(alone) == 256
    assert alone.dtype == np.bool_
    for byte in range(256):
        parts = byte <= 0x20 or byte == 0x7F
        assert values[byte] == (0 if parts else number(ord(chr(byte).lower()) if byte < 0x80 else byte)), byte
        assert alone[byte] == (0x20 < byte < 0x7F and not chr(byte).isalnum()), byte


def test_texts_are_hashed_together_up_to_a_chunk() -> None:
    half, more = "x" * (ngrams.CHUNK // 2), "y" * (ngrams.CHUNK + 1)
    texts = [half, half, "z", more, "Ж", half, "é" * (ngrams.CHUNK // 4), "z", "z"]
    chunks = [[len(raw) for raw in chunk] for chunk in ngrams._chunks(texts)]
    assert chunks == [[8192, 8192], [1], [16385], [2, 8192], [8192, 1, 1]]
    assert [len(chunk) for chunk in ngrams._chunks([half] * 5)] == [2, 2, 1]  # a new chunk begins with nothing
    assert [*ngrams._chunks(["Ab Ж"])] == [["Ab ж".lower().encode()]]
    assert [*ngrams._chunks(["Ab"])] == [[b"Ab"]]  # the table of bytes knows ASCII's case


def test_ids_that_no_machine_and_no_version_may_change() -> None:
    """Weights are fitted to these numbers: if they change, every fitted student is worthless."""
    (ids,) = Ngrams(Features(buckets=1 << 18, words=(1, 2), parts=(5,), opening=1)).encode(
        ["Shares of Café Noir fell 3%"]
    )
    assert ids.tolist() == GOLDEN


def test_case_and_what_parts_words_do_not_matter() -> None:
    ngrams = Ngrams(Features())
    same = ["“Oil” — up: ÉTÉ", "oil   up: été", "Oil\u2026 UP: été\t"]
    assert len({tuple(ids.tolist()) for ids in ngrams.encode(same)} - {()}) == 1


@pytest.mark.parametrize(
    ("character", "words"),
    [
        ("\u1fff", 1),
        ("\u2000", 2),  # the first of general punctuation
        ("\u2014", 2),
        ("\u203f", 2),
        ("\u2040", 2),
        ("\u2063", 2),
        ("\u207f", 2),  # the last character whose bytes begin as those of general punctuation
        ("\u2080", 1),
        ("\u20ac", 1),  # €
        ("\u1000", 1),
        ("\u3000", 1),
    ],
)
def test_general_punctuation_parts_words_and_its_neighbours_do_not(character: str, words: int) -> None:
    ngrams = Ngrams(Features(words=(1,), buckets=1 << 20))
    joined, parted, alone = ngrams.encode([f"oil{character}up", "oil up", f"{character}oil{character}{character}up"])
    assert len(joined) == words
    assert (joined.tolist() == parted.tolist()) is (words == 2)
    assert (alone.tolist() == parted.tolist()) is (words == 2)


def test_kinds_do_not_share_ids() -> None:
    ngrams = Ngrams(Features(words=(1,), opening=1, buckets=1 << 20))
    assert len({*ngrams.encode(["oil"])[0].tolist()}) == 2


def test_n_grams_spread_evenly_over_the_buckets() -> None:
    """60,000 words into 65,536 buckets: a random function fills 1 - exp(-60,000 / 65,536) of them, ± 0.2 %."""
    words = [f"{stem}{i}" for i in range(10_000) for stem in ("a", "market", "ab", "b", "Z", "0")]
    for features in (Features(words=(1,), buckets=1 << 16), Features(words=(2,), buckets=1 << 16)):
        ids = np.concatenate(Ngrams(features).encode([" ".join(words)]))
        assert ids.min() >= 2
        assert ids.max() < Ngrams(features).rows == (1 << 16) + 2
        assert len(np.unique(ids)) / 65_536 == pytest.approx(1 - np.exp(-60_000 / 65_536), abs=0.01)


def test_a_text_without_a_word_has_one_id_and_no_text_has_none() -> None:
    ngrams = Ngrams(EVERYTHING)
    assert ngrams.encode([]) == []
    assert [ids.tolist() for ids in ngrams.encode(["\u2028", "", " "])] == [[1], [1], [1]]


@pytest.mark.parametrize("unit", ["a", "a ", "market falls ", "😀", "—", "$", "İ"])
def test_time_is_linear_on_the_longest_text(unit: str) -> None:
    """Quadratic time would be minutes; the bound only tells the two apart."""
    text = unit * (256 * 1024 // len(unit.encode()))
    start = time.process_time()
    (ids,) = Ngrams(EVERYTHING).encode([text])
    assert time.process_time() - start < 5
    assert len(ids) >= 1


def test_many_threads_get_their_own_ids() -> None:
    ngrams = Ngrams(Features())
    expected = [ids.tolist() for ids in ngrams.encode(TEXTS)]
    with ThreadPoolExecutor(16) as threads:
        encoded = list(threads.map(lambda text: ngrams.encode([text])[0].tolist(), TEXTS * 10))
    assert encoded == expected * 10


def test_only_what_is_known_has_ids_and_they_have_no_gaps(tmp_path: Path) -> None:
    every = Ngrams(EVERYTHING)
    known = np.zeros(EVERYTHING.buckets, bool)
    known[np.concatenate(every.encode(TEXTS[::2])) - 2] = True
    some = Ngrams(EVERYTHING, known)
    assert some.rows == known.sum() + 2
    places = np.flatnonzero(known)
    for full, ids in zip(every.encode(TEXTS), some.encode(TEXTS), strict=True):
        kept = full[known[full - 2]]
        assert ids.tolist() == (np.searchsorted(places, kept - 2) + 2).tolist() or (
            ids.tolist() == [1] and not len(kept)
        )
    _, counts = some.read(["?", "", *TEXTS])
    everything = [[], [], *(full.tolist() for full in every.encode(TEXTS))]
    everything[0] = plain(EVERYTHING, "?")
    assert counts.tolist() == [[sum(known[i - 2] for i in full), len(full)] for full in everything]
    assert counts.dtype == np.int64
    assert Ngrams(EVERYTHING).read([])[1].shape == (0, 2)
    nothing = Ngrams(EVERYTHING, np.zeros(EVERYTHING.buckets, bool))
    assert nothing.rows == 2
    assert [ids.tolist() for ids in nothing.encode(TEXTS)] == [[1]] * len(TEXTS)
    some.save(tmp_path / "features.json")
    loaded = Ngrams.load(tmp_path / "features.json")
    assert loaded.rows == some.rows
    assert [ids.tolist() for ids in loaded.encode(TEXTS)] == [ids.tolist() for ids in some.encode(TEXTS)]


def test_a_file_of_seven_buckets_comes_back_and_may_be_saved_again(tmp_path: Path) -> None:
    """Seven bits fill no byte: the file holds eight, and the reader knows of seven."""
    known = np.array([True, False, True, True, False, False, True])
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    Ngrams(Features(buckets=7), known).save(first)
    loaded = Ngrams.load(first)
    assert loaded.known is not None
    assert (loaded.known.tolist(), loaded.known.dtype, loaded.rows) == (known.tolist(), np.bool_, 6)
    loaded.save(second)
    assert second.read_bytes() == first.read_bytes()


def test_the_features_file_comes_back_and_a_wrong_one_says_why(tmp_path: Path) -> None:
    path = tmp_path / "features.json"
    Ngrams(EVERYTHING).save(path)
    assert Ngrams.load(path).features == EVERYTHING
    assert Ngrams.load(path).rows == EVERYTHING.buckets + 2
    path.write_text('{"features": {"words": [], "parts": []}}')
    with pytest.raises(ManifestError, match="without n-grams: give `words`"):
        Ngrams.load(path)
    Ngrams(Features(buckets=80), np.ones(88, bool)).save(path)
    with pytest.raises(ManifestError, match="88 bits for 80 buckets"):
        Ngrams.load(path)
    path.write_text('{"features": {}, "known": "AAAA"}')
    with pytest.raises(ManifestError, match=r"not a features file.*decompressing"):
        Ngrams.load(path)
    path.write_text('{"features": {"bukets": 3}}')
    with pytest.raises(ManifestError, match=r"features.json: not a features file.*`bukets`.*newsdesk build"):
        Ngrams.load(path)

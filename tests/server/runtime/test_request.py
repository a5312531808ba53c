import numpy as np
import pytest

from newsdesk.server.runtime.cascade import QUALITIES
from newsdesk.server.runtime.errors import QualityError, TextError
from newsdesk.server.runtime.request import MAX_TEXT_BYTES, read, read_qualities, read_texts


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty, expected at least one visible character"),
        (b" \n\t ", "empty"),
        ("\u200b\u2003".encode(), "empty"),
        (b"<b></b>", "empty"),
        (b"caf\xe9", r"not UTF-8 \(byte 3 is 0xe9\), send UTF-8"),
        (b"\xed\xa0\x80", r"not UTF-8 \(byte 0 is 0xed\)"),
        (b"x" * (MAX_TEXT_BYTES + 1), "262145 bytes, expected at most 262144, send a shorter text"),
    ],
)
def test_read_refuses_with_the_reason(raw: bytes, reason: str) -> None:
    with pytest.raises(TextError, match=reason):
        read(raw)


@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_text_of_just_256_kib_is_read_and_a_byte_more_is_not(letter: str) -> None:
    raw = letter.encode() * (262_144 // len(letter.encode()))
    assert read(raw) == letter * (262_144 // len(letter.encode()))
    with pytest.raises(TextError, match="262145 bytes, expected at most 262144"):
        read(raw + b".")


def test_read_cleans() -> None:
    assert read(b"Caf\xc3\xa9 #39;s\\menu\x00") == "Café 's menu"


def test_every_bad_text_is_named_up_to_sixteen() -> None:
    with pytest.raises(TextError, match=r"refused 20 of 21 texts\. text 1: empty.*; text 16: empty.*; and 4 more$"):
        read_texts(np.array([b"good", *[b" "] * 20], np.object_))


def test_qualities_are_read_by_place_and_absent_means_balanced() -> None:
    raw = np.array([b"best", b"fast", b"balanced"], np.object_)
    assert [QUALITIES[place] for place in read_qualities(raw, 3)] == ["best", "fast", "balanced"]
    assert [QUALITIES[place] for place in read_qualities(None, 2)] == ["balanced", "balanced"]


@pytest.mark.parametrize("quality", [b"", b"Best", b"best ", b"worst", b"\xff", b"fast\x00", b"x" * 10_000])
def test_another_quality_is_refused_with_what_was_expected(quality: bytes) -> None:
    with pytest.raises(
        QualityError, match=r"refused 1 of 2 qualities\. quality 1: .*expected one of fast, balanced, best"
    ):
        read_qualities(np.array([b"fast", quality], np.object_), 2)
    with pytest.raises(QualityError) as refused:
        read_qualities(np.array([quality] * 64, np.object_), 64)
    assert len(str(refused.value)) < 1500

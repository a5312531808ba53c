import numpy as np
import pytest

from newsdesk.server.contract import MAX_TEXT_BYTES, QUALITIES
from newsdesk.server.runtime.errors import QualityError, TextError
from newsdesk.server.runtime.request import read, read_qualities, read_texts


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


def test_sixteen_bad_texts_are_all_named_and_nothing_else() -> None:
    named = "; ".join(f"text {i}: empty, expected at least one visible character" for i in range(16))
    with pytest.raises(TextError) as refused:
        read_texts(np.array([b" "] * 16, np.object_))
    assert str(refused.value) == f"newsdesk refused 16 of 16 texts. {named}"


@pytest.mark.parametrize(
    ("quality", "shown"),
    [(b"worst", "'worst'"), (b"\xff", "'\ufffd'"), (b"x" * 40, f"'{'x' * 40}'"), (b"x" * 41, f"'{'x' * 40}'…")],
)
def test_a_quality_that_is_refused_is_shown_as_far_as_forty_bytes(quality: bytes, shown: str) -> None:
    with pytest.raises(QualityError) as refused:
        read_qualities(np.array([quality], np.object_), 1)
    assert str(refused.value) == (
        f"newsdesk refused 1 of 1 qualities. quality 0: {shown}; expected one of fast, balanced, best, or no QUALITY "
        "at all, which means balanced"
    )


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

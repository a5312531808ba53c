import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsdesk.server.ensemble.text import clean


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Plain text stays.", "Plain text stays."),
        ("the shop #39;s sign", "the shop 's sign"),
        (" quot;Never again, quot; he said", '"Never again, " he said'),
        ("&lt;b&gt;Bold&lt;/b&gt; move", "Bold move"),
        ("&amp;lt;i&amp;gt;twice escaped", "twice escaped"),
        ("a dwindling\\band of\\traders", "a dwindling band of traders"),
        ("costs  #36;10 million", "costs $10 million"),
        ("AT&amp;T and AT&T", "AT&T and AT&T"),
        ("3 < 4 > 2", "3 < 4 > 2"),
        ('<A HREF="http://example.org/x.asp">Link</A> text', "Link text"),
        ("nul\x00 and\ttab\u2028line\u00a0space", "nul and tab line space"),
        ("\u200b \ufeff\n", ""),
        ("issue #7; done", "issue #7; done"),
        ("مرحبا 👩\u200d🚀 中文", "مرحبا 👩\u200d🚀 中文"),
    ],
)
def test_clean(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@given(st.text(st.sampled_from("&#;<>\\ab39quotltgamp x/\n\u200b"), max_size=60))
def test_clean_never_lengthens_and_leaves_single_spaces(raw: str) -> None:
    cleaned = clean(raw)
    assert len(cleaned) <= len(raw)
    assert cleaned == " ".join(cleaned.split())


@given(st.text(max_size=200))
def test_clean_is_idempotent_on_any_text(raw: str) -> None:
    assert clean(clean(raw)) == clean(raw)


@pytest.mark.parametrize("unit", ["&amp", "<a", "&#", "&#9", "#39;", "\\", "&lt;", "<b ", "quot;", "a"])
def test_clean_is_linear_on_hostile_text(unit: str) -> None:
    """Quadratic time on 256 KiB would be minutes; the bound only tells the two apart."""
    start = time.process_time()
    clean(unit * (256 * 1024 // len(unit)))
    assert time.process_time() - start < 5


def test_endless_number_does_not_raise() -> None:
    assert clean("a &#" + "9" * 5000 + "; b") == "a & b"

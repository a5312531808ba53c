"""A text without its case is read with the likeliest one, where the tokenizer minds."""

import random

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from benchmarks import MODEL
from newsdesk.server.runtime.casing import Casing, lost
from newsdesk.server.runtime.manifest import load
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.runtime.tokens import Tokens
from newsdesk.server.serving.settings import default_repository
from tests.headlines import TEXTS

PIECES = [
    "[UNK]",
    "the",
    "goal",
    "decides",
    "match",
    "for",
    "Iraq",
    "IBM",
    "in",
    "The",
    "New",
    "York",
    "don't",
    "ir",
    "##aq",
]


def tokenizer(lower: bool = False) -> Tokenizer:
    made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if lower:
        made.normalizer = normalizers.Lowercase()
    return made


@pytest.mark.parametrize("change", [str.lower, str.upper, str.swapcase])
def test_words_get_the_case_that_the_vocabulary_knows(change):
    text = "the goal in Iraq decides the match for IBM in New York"
    assert Casing(tokenizer()).restore([change(text), text]) == [text, text]


def test_pieces_that_hold_the_space_before_them_are_known_too():
    """RoBERTa's kind: "Iraq" is a piece behind a space alone; elsewhere it falls into letters, as "iraq" does."""
    merged = [("Ġ", "i"), ("Ġi", "n"), ("Ġ", "I"), ("ĠI", "r"), ("ĠIr", "a"), ("ĠIra", "q")]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet(), reverse=True)  # small letters rank before capitals
    vocabulary = {piece: i for i, piece in enumerate([*map("".join, merged), *letters])}
    made = Tokenizer(models.BPE(vocabulary, merged))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert Casing(made).restore(["THE GOAL DECIDES THE MATCH IN IRAQ"]) == ["the goal decides the match in Iraq"]


def test_what_no_case_helps_stays_in_lower_case():
    """An unknown piece stands for any word: it must not be what is looked for."""
    restored = Casing(tokenizer()).restore(["THE GOAL OF THE UNHEARDOF MATCH, DON'T", "Ž" * 40_000 + "A" * 40_000])
    assert restored[0] == "the goal of the unheardof match, don't"
    assert restored[1] == "ž" * 40_000 + "a" * 40_000


def test_a_tokenizer_that_does_not_mind_case_is_left_alone():
    text = "THE GOAL IN IRAQ DECIDES THE MATCH"
    assert Casing(tokenizer(lower=True)).restore([text]) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Shares of IBM rise as the market opens", False),
        ("Late Goal Decides The Match In New York", False),
        ("shares of ibm rise as the market opens", True),
        ("SHARES OF IBM RISE AS THE MARKET OPENS", True),
        ("sHaREs Of IbM RiSe As ThE MArKEt oPeNs", True),
        ("IBM, HP AND AMD", False),  # too short to tell
        ("match", False),
        ("ارتفعت الأسهم في السوق المالية اليوم بعد القرار", False),
        ("\ud800" * 30, False),
        ("", False),
    ],
)
def test_a_lost_case_is_told_from_headlines_names_and_other_scripts(text: str, expected: bool):
    assert lost(text) == expected


def test_the_shipped_members_read_articles_of_any_case_alike():
    folder = latest_version(default_repository() / MODEL)
    encoders = [member for member in load(folder).members if member.kind == "encoder"]
    chance = random.Random(17)
    for member in encoders:
        tokens = Tokens(folder / member.tokenizer.path, member.max_length)
        plain = tokens.encode(TEXTS)
        lower, upper = tokens.encode([text.lower() for text in TEXTS]), tokens.encode([text.upper() for text in TEXTS])
        drawn = tokens.encode(["".join(chance.choice((c.upper(), c.lower())) for c in text) for text in TEXTS])
        assert lower == upper
        pieces = [{*a} & {*b} for a, b in zip(plain, lower, strict=True)]
        assert sum(map(len, pieces)) > 0.85 * sum(len({*ids}) for ids in plain)
        assert sum(a == b for a, b in zip(lower, drawn, strict=True)) > 0.9 * len(TEXTS)

"""The attack that knows the words of the labels, but not the model."""

from newsdesk.build.data.rows import Row
from newsdesk.build.evaluation.attack import Attack

ROWS = [Row(f"the harbour ferry sails at dawn {i}", 0) for i in range(30)]
ROWS += [Row(f"the kitchen onion soup simmers {i}", 1) for i in range(30)]


def test_words_tell_by_the_log_odds_of_their_label() -> None:
    """ "harbour" stands in 30 rows of label 0 and in none of 1: log((30 + 1) / 32 · 2); "the" tells nothing."""
    attack = Attack.of(ROWS, 2)
    assert round(float(attack.tells["harbour"][0]), 4) == 0.6614
    assert float(attack.tells["the"][0]) == 0.0
    assert attack.most_telling[1][0] in {"kitchen", "onion", "soup", "simmers"}


def test_telling_words_go_and_those_of_another_label_come() -> None:
    attack = Attack.of(ROWS, 2)
    text = attack(ROWS[0], seed=1)
    assert text == attack(ROWS[0], seed=1)
    words = text.split()
    assert len(words) == len(ROWS[0].text.split()) + 3
    telling = {"harbour", "ferry", "sails", "dawn"}
    assert len(telling & set(words)) == len(telling) - 3
    assert sum(word in attack.most_telling[1][:4] for word in words) >= 1

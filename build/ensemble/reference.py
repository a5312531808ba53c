"""The reference of a model: how its answers to rows that no fit saw are spread. Live answers are held against it.

The rows are whole ones: what the build also asks about in other views is no picture of what people send.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from newsdesk.build.compile.answers import Answers
from newsdesk.build.data import views
from newsdesk.build.data.rows import Row
from newsdesk.build.ensemble import judge
from newsdesk.build.ensemble.ensemble import Fit
from newsdesk.server.runtime import member, reference, terms
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.lengths import words
from newsdesk.server.runtime.manifest import Windows
from newsdesk.server.runtime.ngrams import NOTHING
from newsdesk.server.runtime.reference import Reference
from newsdesk.server.runtime.terms import Terms


def measure(
    fit: Fit,
    folder: Path,
    rows: list[Row],
    answers: Mapping[str, Answers],
    tokenizer: Path,
    max_length: int,
    *,
    learned: bool,
) -> Reference | None:
    """Return the reference, from what the members said of rows that they had not seen; None where no row is whole.

    Args:
        fit: the ensemble
        folder: the folder of the stackers' graphs that the fit names
        rows: the rows
        answers: the members' answers to them, by name
        tokenizer: the tokenizer file of the first member, which reads every text
        max_length: that member's; 0 means a bag
        learned: whether the members that serve were fitted on the rows afterwards, so that they know their words
    """
    whole = np.array([row.view == views.WHOLE for row in rows])
    if not whole.any():
        return None
    texts = [row.text for row, is_whole in zip(rows, whole, strict=True) if is_whole]
    if learned and not max_length:
        unknown = unknown_without(tokenizer, texts)
    else:
        _, _, unknown = member.load_tokenizer(tokenizer, max_length, Windows().overlap)(texts)
    replayed = judge.replay(fit, folder, rows, answers)
    by_quality: dict[str, Array] = {quality: answered.probabilities[whole] for quality, answered in replayed.items()}
    return reference.measure(by_quality, words(texts), unknown)


def unknown_without(tokenizer: Path, texts: list[str]) -> Array:
    """Return the share of each text's n-grams that a bag fitted on the others would not know, FP64 [n].

    `tokenizer` knows all of the texts. An n-gram that stands in one of them alone would be unknown without it.
    """
    bag = terms.load(tokenizer)
    counted = np.zeros((len(texts), 2), np.int64)
    for block in bag.blocks if isinstance(bag, Terms) else [bag]:
        ids, of_block = block.read(texts)
        every, text = np.concatenate(ids), np.repeat(np.arange(len(texts)), [len(of_text) for of_text in ids])
        pairs = np.unique(np.stack([every, text]), axis=1)
        alone = np.bincount(pairs[0], minlength=block.rows) == 1
        alone[: NOTHING + 1] = False
        of_block[:, 0] -= np.bincount(text[alone[every]], minlength=len(texts))
        counted += of_block
    known, every_one = counted.T
    return 1 - np.where(every_one > 0, known, 1) / np.maximum(every_one, 1)

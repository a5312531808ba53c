"""The share of a text's words that a bag fitted on the others would not know, by hand."""

from pathlib import Path

import numpy as np

from newsdesk.build.ensemble.reference import unknown_without
from newsdesk.server.runtime.ngrams import Features, Ngrams
from newsdesk.server.runtime.terms import Terms

TEXTS = ["tide pier", "tide anchor anchor", "tide", "oven never"]


def test_a_word_that_one_text_alone_has_is_unknown_without_it(tmp_path: Path):
    """In "tide pier" one word is its own, in "tide anchor anchor" two are; "never" has no row at all."""
    features = Features(buckets=1 << 16, words=(1,))
    known = np.zeros(1 << 16, bool)
    known[np.concatenate(Ngrams(features).encode(["tide pier anchor oven"])) - 2] = True
    ngrams = Ngrams(features, known)
    ngrams.save(tmp_path / "features.json")
    Terms([ngrams]).save(tmp_path / "terms.json")
    for file in "features.json", "terms.json":
        np.testing.assert_allclose(unknown_without(tmp_path / file, TEXTS), [1 / 2, 2 / 3, 0, 1])

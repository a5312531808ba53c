"""The build reads rows as the server does: long ones in windows, of which the mean counts."""

import numpy as np
import pytest

from newsdesk.build.compile import export, predict
from newsdesk.build.compile.predict import RUNS_ANY, on_all_cores, probabilities
from newsdesk.build.data.rows import Row
from newsdesk.server.runtime import engines
from newsdesk.server.runtime.manifest import Windows
from newsdesk.server.runtime.tokens import Tokens

SHORT, LONG, LONGER = "the old ferry", "the ferry near the pier " * 20, "soup with butter " * 70


@pytest.fixture(scope="module")
def engine(exported):
    return engines.load(RUNS_ANY, exported().graph)


def test_a_long_row_gets_the_mean_of_its_windows(exported, engine):
    examples = exported().encode([Row(text, 0) for text in (SHORT, LONG, LONGER)])
    assert examples.windows.tolist() == [1, 2, 5]
    averaged = probabilities(engine, examples, "rows")
    tokens = Tokens(exported().folder / export.TOKENIZER, 64)
    for text, row in zip((SHORT, LONG, LONGER), averaged, strict=True):
        windows, _ = tokens.windows([text], Windows().overlap)
        logits = np.concatenate([engine(np.array([ids]), np.ones((1, len(ids)), np.int64)) for ids in windows])
        exponents = np.exp(logits.astype(np.float64))
        np.testing.assert_allclose(row, (exponents / exponents.sum(-1, keepdims=True)).mean(0), atol=1e-6)


def test_a_part_holds_its_rows_windows(exported, engine):
    rows = [Row(text, label) for label, text in enumerate((SHORT, LONG, SHORT, LONGER))]
    examples = exported().encode(rows)
    part = examples.part(1, 3)
    assert part.labels.tolist() == [1, 2]
    assert len(part.ids) == 3
    whole = probabilities(engine, examples, "rows")
    np.testing.assert_allclose(probabilities(engine, part, "part"), whole[1:3], atol=1e-6)
    assert examples.part(2, 9).labels.tolist() == [2, 3]


def test_threads_change_no_answer(exported, engine, monkeypatch):
    examples = exported().encode([Row(text, 0) for text in (SHORT, LONG, LONGER)])
    monkeypatch.setattr(predict, "granted_cores", lambda: 4)
    on_four = probabilities(on_all_cores(RUNS_ANY, exported().graph), examples, "rows")
    np.testing.assert_allclose(on_four, probabilities(engine, examples, "rows"), atol=1e-7)


def test_cut_off_a_row_is_one_window(exported):
    examples = exported().encode([Row(LONGER, 0)], cut=True)
    assert examples.windows.tolist() == [1]
    assert len(examples.ids[0]) == 64

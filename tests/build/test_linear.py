"""The linear member: scikit-learn's answers, from the tokenizer and the graph that serve."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from newsdesk.build.compile import linear as compiled
from newsdesk.build.data.rows import Row
from newsdesk.build.errors import DataError, VerificationError
from newsdesk.build.members.linear import Counted, LinearClassifier, fit
from newsdesk.build.recipe import Linear as Settings
from newsdesk.server.runtime import batching, engines
from newsdesk.server.runtime.errors import ManifestError
from newsdesk.server.runtime.ngrams import Features, Ngrams
from newsdesk.server.runtime.terms import MOST, Terms
from tests.build.encoders import WORDS, sentence

SMALL = Settings(blocks=(Features(buckets=1 << 14), Features(buckets=1 << 14, words=(), parts=(3, 4))))
CUT = [sentence(label, i) for i in range(50, 60) for label in WORDS] + ["tide tide tide Tide!", "?", "xylophone"]


def answers(folder: Path, texts: list[str], target: str = "onnxruntime:fp32") -> np.ndarray:
    """Return the logits of an exported member, as the server computes them."""
    ids = Terms.load(folder / "terms.json").encode(texts)
    engine, groups = engines.load(target, folder / "model.fp32.onnx"), [[*range(len(texts))]]
    return engine(*next(batching.pad(ids, groups, 0, batching.BagShapes())))


def of_sklearn(texts: list[str], labels: np.ndarray, asked: list[str], classifier: object) -> np.ndarray:
    """Return what scikit-learn's own TF-IDF and classifier say of texts: the blocks' matrices side by side."""

    def counts(features: Features, of: list[str]) -> sparse.csr_matrix:
        ids = Ngrams(features).encode(of)
        counted = np.zeros((len(of), features.buckets + 2))
        for row, of_text in enumerate(ids):
            np.add.at(counted[row], of_text, 1)
        return sparse.csr_matrix(counted[:, 2:])

    fitted, weighed = [], []
    for features in SMALL.blocks:
        ngrams = counts(features, texts)
        kept = np.flatnonzero(ngrams.sum(axis=0).A1)
        tfidf = TfidfTransformer(sublinear_tf=True).fit(ngrams[:, kept])
        fitted.append(tfidf.transform(ngrams[:, kept]))
        weighed.append(tfidf.transform(counts(features, asked)[:, kept]))
    return classifier.fit(sparse.hstack(fitted), labels).decision_function(sparse.hstack(weighed))


@pytest.fixture(scope="module")
def linear(rows: list[Row]) -> LinearClassifier:
    texts = [row.text for row in rows]
    return fit(Counted.of(texts, SMALL), np.array([row.label for row in rows]), len(WORDS), SMALL)


@pytest.fixture(scope="module")
def exported(linear: LinearClassifier, rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("linear")
    linear.save(folder)
    graphs = folder / "graphs"
    graphs.mkdir()
    compiled.export(folder, graphs, 0, [row.text for row in rows[:40]])
    return graphs


@pytest.mark.parametrize("target", ["onnxruntime:fp32", "openvino:fp32"])
def test_the_served_graph_answers_as_scikit_learn(exported: Path, rows: list[Row], target: str):
    texts, labels = [row.text for row in rows], np.array([row.label for row in rows])
    expected = of_sklearn(texts, labels, CUT, LinearSVC(C=0.5, random_state=0))
    np.testing.assert_allclose(answers(exported, CUT, target), expected, atol=1e-5)


def test_a_logistic_regression_of_two_labels_gives_its_probability(rows: list[Row], tmp_path: Path):
    settings = Settings(blocks=SMALL.blocks, solver="logistic", cost=10)
    two = [row for row in rows if row.label < 2]
    texts, labels = [row.text for row in two], np.array([row.label for row in two])
    member = fit(Counted.of(texts, settings), labels, 2, settings)
    logits = member.logits(CUT)
    classifier = LogisticRegression(C=5, max_iter=500, tol=1e-3, random_state=0)
    odds = of_sklearn(texts, labels, CUT, classifier)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], odds, atol=1e-4)


def test_weights_by_hand(tmp_path: Path):
    """Two terms: "tide" stands three times, "oven" once; idf 1 and 2; one block, of length sqrt(w² + w²)."""
    features = Features(buckets=1 << 12, words=(1,))
    tide, oven = (int(ids[0]) - 2 for ids in Ngrams(features).encode(["tide", "oven"]))
    known = np.zeros(features.buckets, bool)
    known[[tide, oven]] = True
    terms = Terms([Ngrams(features, known)])
    place = [int(ids[0]) % terms.rows for ids in terms.encode(["tide", "oven"])]
    idf, table = np.zeros(4, np.float32), np.zeros((4, 2), np.float32)
    idf[place] = 1, 2
    table[place] = [[1, 0], [0, 10]]
    LinearClassifier(terms, idf, table, np.array([0.5, 0], np.float32)).save(tmp_path)
    graphs = tmp_path / "graphs"
    graphs.mkdir()
    compiled.export(tmp_path, graphs, 0, ["oven tide"])
    weights = 1 + math.log(3), 2.0
    length = math.hypot(*weights)
    expected = [[weights[0] / length + 0.5, 10 * weights[1] / length], [0.5, 10], [0.5, 0]]
    np.testing.assert_allclose(answers(graphs, ["tide Tide oven, tide", "oven", "zebra"]), expected, atol=1e-6)


def take_apart(terms: Terms, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the counts of ids, INT64 each, as the graph does."""
    counts, rows = np.divmod(ids, terms.rows)
    return rows, counts


def test_a_term_stands_once_with_its_count(linear: LinearClassifier):
    once, thrice, often = linear.terms.encode(["tide", "tide tide tide", "tide " * 300])
    rows, counts = take_apart(linear.terms, once)
    assert (counts == 1).all()
    of_thrice = dict(zip(*take_apart(linear.terms, thrice), strict=True))
    assert len(of_thrice) == len(thrice)
    assert {of_thrice[row] for row in rows} == {3}
    assert dict(zip(*take_apart(linear.terms, often), strict=True))[rows[0]] == MOST


def test_what_a_text_gets_does_not_depend_on_its_company(exported: Path):
    together = answers(exported, CUT)
    for text, expected in zip(CUT, together, strict=True):
        np.testing.assert_allclose(answers(exported, [text])[0], expected, atol=1e-6)


def test_it_comes_back_from_its_folder(linear: LinearClassifier, tmp_path: Path):
    linear.save(tmp_path)
    assert (LinearClassifier.load(tmp_path).logits(CUT) == linear.logits(CUT)).all()


def test_a_label_without_rows_is_never_said(rows: list[Row]):
    texts, labels = [row.text for row in rows], np.array([row.label for row in rows])
    member = fit(Counted.of(texts, SMALL), labels + 1, len(WORDS) + 2, SMALL)
    assert set(member.logits([*texts, *CUT]).argmax(1)) == {1, 2, 3}
    with pytest.raises(DataError, match="rows of one label alone"):
        fit(Counted.of(texts, SMALL), np.zeros(len(texts), int), 3, SMALL)


def test_balanced_weights_find_a_rare_label():
    rare = [f"{sentence('kitchen', i)} {sentence('harbour', i)}" for i in range(4)]
    texts = [sentence("harbour", i) for i in range(200)] + rare
    labels = np.array([0] * 200 + [1] * 4)
    asked = Counted.of([f"{sentence('kitchen', i)} {sentence('harbour', i)}" for i in range(30, 60)], SMALL)
    of_fits = [
        fit(Counted.of(texts, SMALL), labels, 2, SMALL, balanced=balanced).of_counts(asked)
        for balanced in (False, True)
    ]
    margins = [logits[:, 1] - logits[:, 0] for logits in of_fits]
    assert (margins[1] > margins[0]).all()


def test_weighted_rows_count_as_if_repeated(rows: list[Row]):
    texts, labels = [row.text for row in rows[:30]], np.array([row.label for row in rows[:30]])
    counted = Counted.of(texts, SMALL)
    zero = fit(counted, labels, 3, SMALL, weights=np.where(np.arange(30) < 15, 1.0, 1e-9))
    even = fit(counted, labels, 3, SMALL)
    assert np.abs(zero.logits(CUT) - even.logits(CUT)).max() > 0.01


def test_a_graph_that_differs_is_refused(linear: LinearClassifier, tmp_path: Path):
    linear.save(tmp_path)
    graph = compiled.graph(LinearClassifier(linear.terms, linear.idf * 2, linear.table + 1, linear.bias))
    (tmp_path / "model.fp32.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(VerificationError, match="logits differ"):
        compiled.parity(linear, tmp_path / "model.fp32.onnx", CUT)


def test_a_file_that_is_no_terms_file_is_refused(tmp_path: Path):
    (tmp_path / "terms.json").write_text('{"blocks": []}')
    with pytest.raises(ManifestError, match="not a terms file"):
        Terms.load(tmp_path / "terms.json")

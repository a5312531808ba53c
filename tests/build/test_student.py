"""The student: its n-grams, its lessons, its graphs, and the build that serves it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional

from newsdesk.build import recipe
from newsdesk.build.compile import bag as compiled
from newsdesk.build.data import excerpts
from newsdesk.build.data.rows import Row
from newsdesk.build.ensemble.out_of_fold import OutOfFold
from newsdesk.build.errors import DataError, RecipeError, VerificationError
from newsdesk.build.evaluation.metrics import accuracy, softmax
from newsdesk.build.members.bag import FEATURES, Bag, Bags, logits, predict
from newsdesk.build.pipeline.artifacts import Artifact, ArtifactStore
from newsdesk.build.pipeline.building import build
from newsdesk.build.pipeline.declaration import declare
from newsdesk.build.pipeline.fits import MemberFit, rows_of
from newsdesk.build.recipe import Distil, Features, NgramMember, Recipe, Student
from newsdesk.build.training import student
from newsdesk.build.training.soft_labels import SoftLabels
from newsdesk.server.runtime import engines, manifest
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.ngrams import Ngrams
from tests.build.encoders import WORDS, sentence

LABELS = [*WORDS]
SMALL = Student(features=Features(buckets=1 << 12, words=(1, 2), parts=(4,)), width=8, hidden=0, epochs=4, dropout=0.2)
LINEAR = NgramMember(name="student", student=SMALL)
DEEP = NgramMember(name="student", student=Student(features=SMALL.features, width=8, hidden=6, epochs=4))
CUT = [Row(sentence(label, i), index) for i in range(50, 70) for index, label in enumerate(WORDS)]


@pytest.fixture(scope="session", params=[LINEAR, DEEP], ids=["linear", "hidden"])
def fitted(request: pytest.FixtureRequest, rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    student.train(request.param, LABELS, rows, CUT, 3, folder)
    _export(folder)
    return folder


def _export(fitted: Path) -> None:
    graphs = fitted / "graphs"
    graphs.mkdir()
    compiled.export(fitted, graphs)
    compiled.to_int8(graphs / "model.fp32.onnx", graphs / "model.int8.onnx")


def test_it_learns_and_comes_back_from_its_folder(fitted: Path):
    probabilities = softmax(logits(fitted, [row.text for row in CUT]))
    assert accuracy(probabilities, np.array([row.label for row in CUT])) > 0.9


def test_the_same_seed_fits_the_same_weights(rows: list[Row], tmp_path: Path):
    fits, once = [], msgspec.structs.replace(LINEAR, student=msgspec.structs.replace(SMALL, epochs=1))
    for name, seed in {"a": 3, "b": 3, "c": 4}.items():
        (tmp_path / name).mkdir()
        student.train(once, LABELS, rows[:60], CUT, seed, tmp_path / name)
        fits.append(logits(tmp_path / name, [row.text for row in CUT]))
    assert (fits[0] == fits[1]).all()
    assert (fits[0] != fits[2]).any()


def test_rows_are_for_the_most_frequent_of_what_is_met_often_enough():
    features = Features(buckets=1 << 16, words=(1,))
    every = Ngrams(features)
    ids = every.encode(["tide tide tide sail sail oven oven oven oven", "salt"])
    tide, oven, sail = (every.encode([word])[0][0] - 2 for word in ("tide", "oven", "sail"))
    known = student.known(ids, Student(features=features))
    assert np.flatnonzero(known).tolist() == sorted([tide, sail, oven])
    known = student.known(ids, Student(features=features, max_ngrams=2))
    assert np.flatnonzero(known).tolist() == sorted([tide, oven])
    with pytest.raises(DataError, match=r"no n-gram stands 9 times.*student.min_count"):
        student.known(ids, Student(features=features, min_count=9))


def test_the_longest_rows_stay():
    ngrams = Ngrams(Features(buckets=8, words=(1,)), np.array([0, 1, 1, 0, 1, 1, 0, 0], bool))
    bag = Bag(6, 2, 0, 2)
    with torch.no_grad():
        bag.table.weight[:] = torch.tensor([[0, 0], [9, 9], [0, 3], [1, 1], [0, 0], [2, -2]])
    shorter, fewer = student.pruned(bag, ngrams, 2)
    assert shorter.table.weight.tolist() == [[0, 0], [9, 9], [0, 3], [2, -2]]
    assert np.flatnonzero(fewer.known).tolist() == [1, 5]
    assert fewer.rows == 4
    assert len(bag.table.weight) == 6  # which is not changed


def test_a_fit_keeps_as_many_ngrams_as_the_recipe_says(rows: list[Row], tmp_path: Path):
    few = msgspec.structs.replace(LINEAR, student=msgspec.structs.replace(SMALL, kept_ngrams=120))
    figures = student.train(few, LABELS, rows, CUT, 3, tmp_path)
    assert figures.ngrams == 120
    assert len(Bag.load(tmp_path).table.weight) == Ngrams.load(tmp_path / FEATURES).rows == 122
    probabilities = softmax(logits(tmp_path, [row.text for row in CUT]))
    assert figures.validation.accuracy == accuracy(probabilities, np.array([row.label for row in CUT])) > 0.9


def test_the_mean_is_over_the_ids_that_are_there():
    bag = Bag(5, 2, 0, 2).eval()
    with torch.no_grad():
        bag.table.weight[:] = torch.tensor([[0, 0], [1, 2], [3, 4], [5, 6], [7, 8]])
        bag.head.weight[:], bag.head.bias[:] = torch.eye(2), torch.tensor([10.0, 20.0])
    means = predict(bag, Bags.of([np.array([1, 2]), np.array([4]), np.array([1, 1, 3])]))
    assert means.tolist() == [[12, 23], [17, 28], [pytest.approx(10 + 7 / 3), pytest.approx(20 + 10 / 3)]]


def test_dropout_takes_its_share_and_nothing_of_other_texts():
    bags = Bags.of([np.full(5000, 7), np.full(3000, 9)])
    ids, offsets = bags.take(np.array([1, 0]), np.random.default_rng(0), 0.25)
    first = ids[: offsets[1]]
    assert (first == 9).all()
    assert (ids[offsets[1] :] == 7).all()
    assert len(first) == pytest.approx(2250, abs=100)
    assert len(ids) == pytest.approx(6000, abs=150)


def test_lessons_weigh_labels_and_teachers_and_texts_have_only_teachers():
    """By hand: (1 - w)·cross-entropy + w·T²·KL(teacher at T ‖ student at T); for a text without a label the latter."""
    scores = torch.tensor([[1.0, -0.5, 0.2], [0.3, 0.1, -2.0]])
    taught = SoftLabels(np.array([[0.7, 0.2, 0.1]], np.float32), ["a"], np.array([[0.1, 0.1, 0.8]], np.float32))
    lessons = student._Lessons.of(np.array([2]), 3, Distil(teachers=["t"], weight=0.6, temperature=2.0), taught)

    def kl(teacher: list[float], row: torch.Tensor) -> torch.Tensor:
        warm = torch.tensor(teacher).sqrt() / torch.tensor(teacher).sqrt().sum()
        return 4 * (warm * (warm.log() - torch.log_softmax(row / 2, -1))).sum()

    hard = functional.cross_entropy(scores[:1], torch.tensor([2]))
    expected = (0.4 * hard + 0.6 * kl([0.7, 0.2, 0.1], scores[0]) + kl([0.1, 0.1, 0.8], scores[1])) / 2
    assert lessons.loss(scores, np.array([0, 1])).item() == pytest.approx(expected.item(), rel=1e-5)
    alone = student._Lessons.of(np.array([2]), 3, None, None)
    assert alone.loss(scores[:1], np.array([0])).item() == pytest.approx(hard.item())


def test_excerpts_are_an_opening_and_the_rest():
    rows = [Row(" ".join(f"w{i}" for i in range(length)), 0) for length in (3, 15, 40)]
    cuts = excerpts.cut(rows, 5)
    assert cuts == excerpts.cut(rows, 5)
    assert len(cuts) == 4
    for row, opening, rest in zip(rows[1:], cuts[::2], cuts[1::2], strict=True):
        assert f"{opening} {rest}" == row.text
        assert 4 <= len(opening.split()) <= 11


def test_what_was_taught_of_rows_left_out_is_left_out_with_them():
    rows = [Row(" ".join(f"{word}{i}" for i in range(20)), 0) for word in "abc"]
    texts = ["somebody else's", *excerpts.cut(rows, 5)]
    taught = SoftLabels(np.eye(3, dtype=np.float32), texts, np.arange(7, dtype=np.float32)[:, None].repeat(3, 1), 1)
    kept = taught.without([row.text for row in rows], np.array([False, True, False]))
    assert kept.rows.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert kept.texts == [texts[i] for i in (0, 1, 2, 5, 6)]
    assert kept.of_texts[:, 0].tolist() == [0, 1, 2, 5, 6]
    assert kept.new == 1


@pytest.mark.parametrize("target", ["onnxruntime:fp32", "openvino:fp32", "onnxruntime:int8", "openvino:int8"])
def test_graphs_answer_as_the_model_does(fitted: Path, target: str):
    """Whatever stands where the mask is 0, and a row of nothing but padding is finite."""
    variant = engines.TARGETS[target]
    engine = engines.load(target, fitted / "graphs" / f"model.{variant}.onnx")
    texts = [row.text for row in CUT[:5]]
    ids = Ngrams.load(fitted / FEATURES).encode(texts)
    padded, mask = np.full((6, 150), 3), np.zeros((6, 150), np.int64)
    for row, row_ids in enumerate(ids):
        padded[row, : len(row_ids)], mask[row, : len(row_ids)] = row_ids, 1
    answers = engine(padded, mask)
    assert answers[:5] == pytest.approx(logits(fitted, texts), abs=1e-4 if variant == "fp32" else 0.1)
    assert np.isfinite(answers).all()
    assert engine(padded[:1, : len(ids[0])], mask[:1, : len(ids[0])])[0] == pytest.approx(answers[0], abs=1e-5)


def test_a_linear_student_is_one_table_of_a_number_a_label(rows: list[Row], tmp_path: Path):
    figures = student.train(LINEAR, LABELS, rows, CUT, 3, tmp_path)
    _export(tmp_path)
    (table,) = (v for v in onnx.load(tmp_path / "graphs" / "model.int8.onnx").graph.initializer if v.name == "table")
    values = numpy_helper.to_array(table)
    assert values.dtype == np.int8
    assert values.shape == (figures.ngrams + 2, len(LABELS))
    assert np.abs(values).max(0).tolist() == [127] * 3
    assert not values[0].any()


def test_a_graph_that_differs_is_refused(fitted: Path, tmp_path: Path):
    model = onnx.load(fitted / "graphs" / "model.fp32.onnx")
    (bias,) = (v for v in model.graph.initializer if v.name == "bias0")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 0.5, "bias0"))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(VerificationError, match=r"batch 1, length 1: logits differ by .*PyTorch"):
        compiled.parity(Bag.load(fitted), tmp_path / "model.onnx")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    lines = [f"{sentence(label, i)},{label}" for i in range(100) for label in WORDS]
    path.write_text("\n".join(["text,label", *lines]))
    return {"data.train": {"file": str(path)}, "data.test": None, "labels": LABELS, "split.validation_rows": 60}


SETTINGS = {"features": {"buckets": 4096}, "epochs": 4, "dropout": 0.2, "batch_size": 32}
MEMBER = {"name": "student", "kind": "ngrams", "student": SETTINGS}
CHANGES = {
    "quantise.min_agreement": 0.95,
    "quantise.max_accuracy_loss": 0.05,
    "compile": {"rows": 8, "rounds": 1},
    "verify.rows": 20,
}


@pytest.fixture(scope="module")
def built(source: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a build of a student alone: `artifacts` and `models`."""
    folder = tmp_path_factory.mktemp("build")
    changes = {**source, **CHANGES, "members": [MEMBER]}
    figures = build(recipe.load("compact", changes), folder / "artifacts", folder / "models")
    assert figures["members"]["student"]["train"]["validation"]["accuracy"] > 0.9
    return folder


def test_a_build_of_a_student_is_served(built: Path):
    folder = built / "models" / "ag_news" / "1"
    described = manifest.load(folder)
    assert described.members[0].kind == "ngrams"
    assert described.members[0].tokenizer.path == "student/features.json"
    answers = Classifier(described, folder).classify(["the ferry near the old pier", "soup with butter and onion"])
    assert [LABELS[i] for i in answers.probabilities.argmax(-1)] == ["harbour", "kitchen"]
    assert "hashed n-grams" in (folder.parent / "MODEL_CARD.md").read_text()


def run(settings: Recipe, folder: Path, *ids: str, say: Callable[[str], None] = print) -> dict[str, Artifact]:
    return declare(settings).graph.run(ids, ArtifactStore(folder, say))


def fits_of(settings: Recipe, id: str) -> list[MemberFit]:
    return declare(settings).graph.stages[id].settings["fits"]


def nothing_runs(line: str) -> None:
    assert not line.endswith(": running"), line


def test_a_student_is_taught_by_a_fitted_member(source: dict, built: Path):
    """The teacher is a student as well: a member of any kind can be asked."""
    more = built / "more.csv"
    texts = [sentence(label, i) for i in (3, 200, 200, 201) for label in WORDS]  # 3 is a row, 200 stands twice
    more.write_text("\n".join(["text", *texts, "&nbsp;"]))
    reads = {**SETTINGS, "excerpts": True, "unlabelled": {"file": str(more), "label_column": ""}}
    pupil = {**MEMBER, "name": "pupil", "student": reads, "distil": {"teachers": ["student"]}}
    settings = recipe.load("compact", {**source, **CHANGES, "members": [MEMBER, pupil]})
    lines: list[str] = []
    made = run(settings, built / "artifacts", "train pupil", say=lines.append)
    assert [line for line in lines if line.endswith(": running")] == ["teach pupil: running", "train pupil: running"]
    taught, soft_labels = made["teach pupil"], SoftLabels.load(made["teach pupil"].path, 6)
    assert taught.figures["new"] == 6
    assert soft_labels.texts[:6] == [sentence(label, i) for i in (200, 201) for label in WORDS]
    assert len(soft_labels.texts) == len(soft_labels.of_texts) > 100
    (teacher,) = fits_of(settings, "teach pupil")
    rows = [row.text for row in rows_of(made["split"], "train")]
    assert soft_labels.rows == pytest.approx(softmax(teacher.logits(made["train student"], rows)), abs=1e-6)
    assert taught.figures["accuracy_on_training_rows"] > 0.9
    assert made["train pupil"].figures["taught_texts"] == len(soft_labels.texts)
    assert made["train pupil"].figures["validation"]["accuracy"] > 0.9
    again = run(settings, built / "artifacts", "train pupil", say=nothing_runs)
    assert again["teach pupil"].path == taught.path


def test_teachers_label_the_rows_that_they_did_not_see(source: dict, tmp_path: Path):
    pupil = {**MEMBER, "name": "pupil", "student": {**SETTINGS, "excerpts": True}, "distil": {}}
    own = {"teachers": [MEMBER, {**MEMBER, "name": "other", "student": {**SETTINGS, "width": 8}}], "folds": 3}
    settings = recipe.load("compact", {**source, **CHANGES, "members": [pupil], "teaching": own})
    made = run(settings, tmp_path, "teach pupil")
    assert "train teacher student without fold 1 of 3" not in made  # asked once, and not kept for others
    soft_labels = SoftLabels.load(made["teach pupil"].path, 0)
    every = rows_of(made["split"], "train")
    expected, of_texts = np.zeros_like(soft_labels.rows), []
    fits = fits_of(settings, "teach pupil")
    assert [fit.name for fit in fits][:2] == ["student without fold 1 of 3", "student without fold 2 of 3"]
    trained = run(settings, tmp_path, *(f"train teacher {fit.name}" for fit in fits), say=nothing_runs)
    for fit in fits:
        teacher, number = trained[f"train teacher {fit.name}"], fit.fold.number
        seen = [row for i, row in enumerate(every) if i % 3 != number]
        assert rows_of(made["split"], "train", fit.fold) == seen
        assert teacher.figures["rows"] == len(seen)
        expected[number::3] += softmax(fit.logits(teacher, [row.text for row in every[number::3]])) / 2
        of_texts.append(softmax(fit.logits(teacher, soft_labels.texts)))
    assert soft_labels.rows == pytest.approx(expected, abs=1e-6)
    assert soft_labels.of_texts == pytest.approx(np.mean(of_texts, axis=0), abs=1e-6)
    assert set(made["teach pupil"].figures["teachers"]) == {fit.name for fit in fits}
    shutil.rmtree(tmp_path / "train")  # once they have taught, nobody needs them
    assert run(settings, tmp_path, "teach pupil", say=nothing_runs)["teach pupil"].path == made["teach pupil"].path


def test_calibration_reads_what_is_said_of_rows_left_out(source: dict, built: Path, tmp_path: Path):
    """Texts of rows that might have become validation rows. The member that serves is fitted as without."""
    column = built / "kinds.csv"
    rows = [f"{sentence(label, i)},{label},{'odd' if i % 5 == 0 else 'plain'}" for i in range(100) for label in WORDS]
    column.write_text("\n".join(["text,label,kind", *rows]))
    changes = {**source, **CHANGES, "data.train": {"file": str(column)}, "split.validation_where": {"kind": ["plain"]}}
    teacher, pupil = {**MEMBER, "name": "teacher"}, {**MEMBER, "student": {**SETTINGS, "excerpts": True}, "distil": {}}
    members = [{**pupil, "calibration_folds": 3}, teacher]
    settings = recipe.load("compact", {**changes, "teaching": None, "members": members, "ensemble.combiners": ["mean"]})
    artifacts = tmp_path / "artifacts"
    figures = build(settings, artifacts, tmp_path / "models")
    built_by = manifest.load(tmp_path / "models" / "ag_news" / "1").built
    (entry,) = (entry for entry in built_by if entry["stage"] == "cross-fit")
    kept = OutOfFold.load(artifacts / "cross-fit" / entry["key"])
    fits = fits_of(settings, "cross-fit student")
    made = run(settings, artifacts, "teach student", *(f"train {fit.name}" for fit in fits), say=nothing_runs)
    every = rows_of(made["split"], "train")
    plain = [i for i, row in enumerate(every) if row.eligible]
    assert kept.labels.tolist() == [every[i].label for i in plain]
    assert entry["figures"]["rows"] == len(plain) < len(every)
    for number, fit in enumerate(fits):
        taught = made[f"train {fit.name}"].figures["taught_texts"]
        assert 0 < taught < len(SoftLabels.load(made["teach student"].path, 0).texts)
        here = [i for i in plain if i % 3 == number]
        expected = softmax(fit.logits(made[f"train {fit.name}"], [every[i].text for i in here]))
        assert kept.probabilities[[plain.index(i) for i in here]] == pytest.approx(expected, abs=1e-6)
    assert figures["ensemble"]["members"]["student"]["rows_left_out"] == len(plain)
    without = recipe.load("compact", {**changes, "teaching": None, "members": [pupil, teacher]})
    same = run(without, artifacts, "train student", say=nothing_runs)["train student"]
    assert same.figures == figures["members"]["student"]["train"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([{**MEMBER, "calibration_folds": 1}], "student: calibration_folds is 1, which leaves no rows to fit on"),
        ([{"name": "a"}], "missing required field `base`.*member a is of kind 'encoder', which has .*base"),
        (
            [{"name": "a", "base": "x", "student": {"width": 4}}],
            "unknown field `student`.*member a is of kind 'encoder', which has base",
        ),
        ([{**MEMBER, "base": "x"}], "unknown field `base`.*is of kind 'ngrams', which has .*student"),
        ([{**MEMBER, "train": {"epochs": 9}}], "unknown field `train`.*is of kind 'ngrams', which has .*student"),
        ([{**MEMBER, "pretrain": {}}], "unknown field `pretrain`.*is of kind 'ngrams', which has .*student"),
        ([{**MEMBER, "student": {"excerpts": True}}], "nobody labels the excerpts or unlabelled texts; name teachers"),
        ([{**MEMBER, "student": {"features": {"words": []}}}], "without n-grams: give `words`"),
        ([{**MEMBER, "distil": {"teachers": ["minilm"]}}], r"the teacher 'minilm'; expected another.*there is none"),
        ([{**MEMBER, "distil": {"teachers": ["student"]}}, {"name": "b", "base": "x"}], r"teacher 'student'.*\(b\)"),
    ],
)
def test_recipes_that_cannot_be_are_refused_with_what_to_do(members: list[dict], message: str):
    with pytest.raises(RecipeError, match=message):
        recipe.load("compact", {"members": members})

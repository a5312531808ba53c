"""Golden answers of a tiny cascade: written, found again, and not found again where something differs."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime import golden
from newsdesk.server.runtime.errors import ManifestError
from newsdesk.server.runtime.golden import Finding, Golden
from newsdesk.server.runtime.manifest import Manifest
from tests import tiny

TEXTS = ["minister treaty", "goal match goal said", "market shares " * 3, "robot", *["software said"] * 8]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path]:
    version = tmp_path_factory.mktemp("version")
    return tiny.write_cascade(version), version


@pytest.fixture
def written(made: tuple[Manifest, Path], tmp_path: Path) -> Golden:
    manifest, version = made
    golden.write(tmp_path / "archive" / "golden", version, manifest, TEXTS)
    return Golden.load(tmp_path / "archive" / "golden")


def test_ids_and_logits_of_every_graph_are_kept(written: Golden, made: tuple[Manifest, Path]) -> None:
    """A word votes with 2 in "tiny", with 4 in "keen"; the one of "bag" has no int8 graph."""
    assert written.texts == TEXTS
    assert sorted(written.arrays) == sorted(
        [f"{member}/{name}" for member in ("bag", "tiny", "keen") for name in ("ids", "mask", "fp32")]
        + ["tiny/int8", "keen/int8", "answers"]
    )
    ids, mask = written.arrays["tiny/ids"], written.arrays["tiny/mask"]
    assert ids.dtype == mask.dtype == np.int64
    assert ids.shape == mask.shape == (12, 8)
    assert ids[0].tolist() == [2, 4, 5, 3, 0, 0, 0, 0]
    assert mask[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    expected = [[4, 0, 0, 0], [0, 6, 0, 0], [0, 0, 12, 0], *[[0, 0, 0, 2]] * 9]
    np.testing.assert_array_equal(written.arrays["tiny/fp32"], expected)
    np.testing.assert_array_equal(written.arrays["tiny/int8"], expected)
    np.testing.assert_array_equal(written.arrays["keen/fp32"], np.array(expected) * 2)
    assert written.arrays["answers"].argmax(-1).tolist() == [0, 1, 2, *[3] * 9]
    assert written.lengths(made[0].members[1]) == [4, 6, 8, 3, *[4] * 8]


@pytest.mark.parametrize("target", ["", "openvino:int8,bag=onnxruntime:fp32"])
def test_the_same_answers_pass(target: str, written: Golden, made: tuple[Manifest, Path]) -> None:
    manifest, version = made
    findings = [*written.check(version, manifest, target)]
    names = [finding.name for finding in findings]
    assert [name.split()[0] for name in names] == ["bag", "tiny", "keen", "ensemble"]
    int8 = "int8" in target
    assert names[1] == f"tiny {'openvino:int8' if int8 else target or 'onnxruntime:fp32'}"
    assert [finding.limit for finding in findings] == ([1e-3, 0.3, 0.3, 0.3] if int8 else [1e-3] * 4)
    for finding in findings:
        assert finding.largest < 1e-5
        assert finding.agreement == 1.0
        assert finding.per_second > 0
        assert finding.passed


def test_how_far_and_how_often_answers_differ(written: Golden, made: tuple[Manifest, Path]) -> None:
    """One text of twelve had another label where it was built: its softmax was that of World's 4."""
    manifest, version = made
    written.arrays["tiny/fp32"][3] = [4, 0, 0, 0]
    finding = written.of(manifest.members[1], version, "onnxruntime:fp32")
    apart = np.exp(4) / (np.exp(4) + 3) - 1 / (np.exp(2) + 3)
    assert finding.largest == pytest.approx(apart, abs=1e-6)
    assert finding.agreement == pytest.approx(11 / 12)
    assert not finding.passed


def test_it_may_be_compared_with_another_variant(written: Golden, made: tuple[Manifest, Path]) -> None:
    manifest, version = made
    written.arrays["tiny/int8"][3] = [4, 0, 0, 0]
    assert written.of(manifest.members[1], version, "onnxruntime:fp32").passed
    against = written.of(manifest.members[1], version, "onnxruntime:fp32", "int8")
    assert (against.agreement, against.limit) == (pytest.approx(11 / 12), 0.3)


def test_a_variant_without_golden_logits_is_held_against_those_of_its_precision(
    written: Golden, made: tuple[Manifest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """bf16 reads the fp32 graph, whose logits are kept; without those, none of bf16 are either."""
    manifest, version = made
    asked = []

    def of(self: Golden, member: Any, version: Path, target: str, against: str = "") -> Finding:
        asked.append((member.name, target, against))
        return Finding(member.name, 0.0, 1.0, 0.125, 1.0)

    monkeypatch.setattr(Golden, "of", of)
    target = "tiny=openvino:bf16,keen=openvino:int8,bag=onnxruntime:fp32"
    *_, ensemble = written.check(version, manifest, target)
    del written.arrays["tiny/fp32"], written.arrays["keen/int8"]
    assert [*written.check(version, manifest, target)][-1].limit == ensemble.limit == 0.125
    assert asked[:3] == [
        ("bag", "onnxruntime:fp32", ""), ("tiny", "openvino:bf16", ""), ("keen", "openvino:int8", ""),
    ]  # fmt: skip
    assert asked[3:] == [
        ("bag", "onnxruntime:fp32", ""), ("tiny", "openvino:bf16", "bf16"), ("keen", "openvino:int8", "int8"),
    ]  # fmt: skip


def test_a_rate_is_of_texts_a_second(
    written: Golden, made: tuple[Manifest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve texts within four seconds, by a clock that does so between two looks."""
    clock = itertools.count(100.0, 4.0)
    monkeypatch.setattr(golden, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert {finding.per_second for finding in written.check(made[1], made[0])} == {3.0}


def test_each_graph_is_run_by_the_target_of_its_precision(
    made: tuple[Manifest, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that ONNX Runtime has no target of its own for by the reference, as it is written."""
    manifest, version = made
    bag, member, keen = manifest.members
    member = msgspec.structs.replace(member, graphs=member.graphs | {"fp16": member.graphs["fp32"]})
    loaded, load = [], golden.engines.load

    def loading(target: str, path: Path) -> Any:
        loaded.append((target, path.name))
        return load(target, path)

    monkeypatch.setattr(golden.engines, "load", loading)
    monkeypatch.setattr(golden, "Classifier", lambda manifest, version: None)
    monkeypatch.setattr(golden, "_answers", lambda classifier, texts: np.zeros((len(texts), 4), np.float32))
    golden.write(tmp_path, version, msgspec.structs.replace(manifest, members=[bag, member, keen]), TEXTS)
    names = {variant: Path(graph.path).name for variant, graph in member.graphs.items()}
    assert loaded[1:4] == [
        ("onnxruntime:fp32", names["fp32"]), ("onnxruntime:int8", names["int8"]), ("onnxruntime:fp32", names["fp16"]),
    ]  # fmt: skip


def test_the_ensemble_answers_at_its_best_by_the_target_that_is_checked(
    written: Golden, made: tuple[Manifest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Stub:
        def __init__(self, manifest: Manifest, version: Path, target: str) -> None:
            asked.append(target)

        def classify(self, texts: list[str], quality: np.ndarray) -> SimpleNamespace:
            asked.append((texts, quality.tolist()))
            return SimpleNamespace(probabilities=written.arrays["answers"])

    monkeypatch.setattr(golden, "Classifier", Stub)
    *_, ensemble = written.check(made[1], made[0], "onnxruntime:fp32")
    assert ensemble.passed
    assert asked == ["onnxruntime:fp32", (TEXTS, [QUALITIES.index("best")] * len(TEXTS))]


def test_short_texts_are_not_computed_at_the_longest_ones_length() -> None:
    """Eight at a time, each part as wide as its own longest."""
    mask = np.zeros((10, 7), np.int64)
    mask[:8, :3] = mask[8:, :5] = 1
    shapes = []

    def engine(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        shapes.append((ids.shape, mask.shape))
        return ids[:, :3].astype(np.float16)

    logits = golden._run(engine, np.ones((10, 7), np.int64), mask)  # type: ignore[arg-type]
    assert (logits.shape, logits.dtype) == ((10, 3), np.float32)
    assert shapes == [((8, 3), (8, 3)), ((2, 5), (2, 5))]


@pytest.mark.parametrize(
    ("largest", "agreement", "passed"),
    [
        (0.3, 0.95, True),
        (0.301, 1.0, False),
        (0.0, 0.949, False),
        (float("nan"), 1.0, False),
    ],
)
def test_a_finding_passes_within_its_limit(largest: float, agreement: float, passed: bool) -> None:
    assert Finding("tiny", largest, agreement, 0.3, 1.0).passed is passed


def test_an_ensemble_that_answers_otherwise_does_not_pass(written: Golden, made: tuple[Manifest, Path]) -> None:
    written.arrays["answers"][:2] = written.arrays["answers"][1::-1]
    *members, ensemble = written.check(made[1], made[0])
    assert all(finding.passed for finding in members)
    assert ensemble.agreement == pytest.approx(10 / 12)
    assert not ensemble.passed


@pytest.mark.parametrize("part", ["ids", "mask"])
def test_a_tokenizer_that_gives_other_ids_is_an_error(part: str, written: Golden, made: tuple[Manifest, Path]) -> None:
    manifest, version = made
    written.arrays[f"tiny/{part}"][0, 1] += 1
    with pytest.raises(ManifestError) as error:
        written.of(manifest.members[1], version, "onnxruntime:fp32")
    assert str(error.value) == "member tiny: the tokenizer gives other ids here. Install requirements.txt."


@pytest.mark.parametrize("broken", [golden.TEXTS, golden.ARRAYS])
@pytest.mark.parametrize("raw", [None, b"", b"{}", b"PK\x03\x04 cut"])
def test_golden_answers_that_cannot_be_read_are_an_error(
    broken: str, raw: bytes | None, made: tuple[Manifest, Path], tmp_path: Path
) -> None:
    golden.write(tmp_path, made[1], made[0], TEXTS[:2])
    (tmp_path / broken).unlink()
    if raw is not None:
        (tmp_path / broken).write_bytes(raw)
    with pytest.raises(ManifestError) as error:
        Golden.load(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}: no golden answers (")
    assert str(error.value).endswith("). Unpack the archive again.")


def test_n_grams_and_tokens_are_read_as_the_server_reads_them(made: tuple[Manifest, Path]) -> None:
    manifest, version = made
    ids, mask = golden.read(manifest.members[0], version, ["goal", "goal match goal"])
    assert ids.shape == (2, 3)
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert ids[0].tolist() == [ids[1, 0], 0, 0]
    cut, _ = golden.read(manifest.members[1], version, ["goal " * 100])
    assert cut.tolist() == [[2, *[7] * (tiny.MAX_LENGTH - 2), 3]]
    padded = msgspec.structs.replace(manifest.members[1], pad_id=9)
    assert golden.read(padded, version, ["goal", "goal match"])[0].tolist() == [[2, 7, 3, 9], [2, 7, 6, 3]]

"""Engines, built for real by TensorRT-RTX ahead of time on a machine without a GPU (notes 04, 83 to 85, 98)."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import helper

from newsdesk.build.compile import engine, profiles, quantise
from newsdesk.build.compile.gate import Gate
from newsdesk.build.compile.graphs import GraphFacts
from newsdesk.build.compile.predict import RUNS_ANY, probabilities
from newsdesk.build.errors import BuildError
from newsdesk.build.recipe import Engines, Quantise
from newsdesk.server.runtime import engines

RTX = "tensorrt_rtx"
PROFILES = profiles.place(RTX, [64], [1, 8])
GIVEN = Engines(compute_capabilities=("8.9",))
FAMILIES = {"bert": 0.8, "mpnet": 0.8, "deberta-v2": 0.5, "roberta": 0.8, "electra": 0.8, "xlnet": 0.6, "albert": 0.7}
"""Family → the least share of products that multiply in int8."""


@pytest.fixture(scope="session")
def variants(exported, rows, calibration_ids, tmp_path_factory):
    """Make every precision of a family's tiny member, once a session, as a build does."""
    made = {}

    def of(family: str) -> tuple[Path, dict]:
        if family not in made:
            tiny = exported(family)
            examples = tiny.encode(rows)
            reference = probabilities(engines.load(RUNS_ANY, tiny.graph), examples, family)
            gate = Gate(replace(examples, labels=reference.argmax(-1)), reference, 1.0, 0.0)  # no search
            facts = GraphFacts.load(tiny.folder)
            folder = tmp_path_factory.mktemp("variants")
            settings = Quantise(variants=("fp16", "int8", "int8-fp16", "fp8"))
            bench = quantise.Workbench(tiny.graph, facts, gate, calibration_ids, settings, folder, lambda line: None)
            made[family] = folder, quantise.quantise(bench)
        return made[family]

    return of


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_built_in_every_precision(family, variants, tmp_path: Path):
    folder, figures = variants(family)
    for variant in ("fp32", "fp16", "int8-fp16", "fp8"):
        assert not figures[variant].error
        assert figures[variant].agreement > 0.7  # random weights decide little; the gate is for fitted members
        made = engine.build(folder / f"model.{variant}.onnx", tmp_path / f"{variant}.plan", RTX, PROFILES, GIVEN)
        assert (tmp_path / f"{variant}.plan").stat().st_size / 2**20 == pytest.approx(made.mib, abs=0.01)
        assert sum(made.products.values()) == pytest.approx(1, abs=0.01)
        kind = variant.partition("-")[0]
        assert made.products[kind] >= (FAMILIES[family] if kind == "int8" else 0.5)
        if variant != "fp32":
            assert "fp32" not in made.products


def test_int8_leaves_the_rest_in_fp32_and_int8_fp16_does_not(variants, tmp_path: Path):
    folder, _ = variants("bert")
    made = engine.build(folder / "model.int8.onnx", tmp_path / "int8.plan", RTX, PROFILES, GIVEN)
    assert set(made.products) == {"fp32", "int8"}


def test_the_log_is_kept(variants, tmp_path: Path):
    folder, _ = variants("bert")
    made = engine.build(folder / "model.fp16.onnx", tmp_path / "x.plan", RTX, PROFILES, GIVEN)
    assert "model.fp16.onnx" in (tmp_path / "x.log").read_text()
    assert made.version == engine.runtime(RTX).__version__
    assert not (tmp_path / "x.timing").exists()


def test_what_the_parser_refuses_is_listed(exported, tmp_path: Path):
    model = onnx.load(exported().graph)
    last = model.graph.node[-1]
    last.output[0] = "before"
    model.graph.node.append(helper.make_node("Unknowable", ["before"], ["logits"], "strange"))
    onnx.save(model, tmp_path / "strange.onnx")
    with pytest.raises(BuildError, match=r"tensorrt_rtx 1\..* cannot read strange.onnx: strange: .*Plugin not found"):
        engine.build(tmp_path / "strange.onnx", tmp_path / "x.plan", RTX, PROFILES, GIVEN)
    assert not (tmp_path / "x.plan").exists()


def test_fp8_for_a_gpu_without_it_is_the_builders_own_error(variants, tmp_path: Path):
    folder, _ = variants("bert")
    old = Engines(compute_capabilities=("8.0",))
    with pytest.raises(BuildError, match=r"cannot build model.fp8.onnx: .*fp8"):
        engine.build(folder / "model.fp8.onnx", tmp_path / "x.plan", RTX, PROFILES, old)
    assert "ERROR" in (tmp_path / "x.log").read_text()


def test_a_gpu_that_the_runtime_does_not_build_for_is_named(variants, tmp_path: Path):
    folder, _ = variants("bert")
    hopper = Engines(compute_capabilities=("9.0",))
    with pytest.raises(
        BuildError, match=r"compute capability '9.0': tensorrt_rtx .* builds for 7.5, 8.0, 8.6, 8.9, 12.0"
    ):
        engine.build(folder / "model.fp16.onnx", tmp_path / "x.plan", RTX, PROFILES, hopper)


def test_a_runtime_that_is_missing_or_old_says_what_to_install(monkeypatch):
    with pytest.raises(BuildError, match=r"tensorrt is not installed here .*pip install 'tensorrt>=10.12'"):
        engine.runtime("tensorrt")
    monkeypatch.setattr(engine.runtime(RTX), "__version__", "1.0.0")
    with pytest.raises(BuildError, match=r"tensorrt_rtx 1.0.0 is too old, expected 1.1 or later"):
        engine.runtime(RTX)

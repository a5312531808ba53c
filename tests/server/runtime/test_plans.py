"""A plan that was built elsewhere is refused before anything loads it, with both sides and the way out (note 48)."""

import contextlib
import importlib.metadata

import msgspec
import pytest

from newsdesk.server.runtime import gpu, manifest, plans, targets
from newsdesk.server.runtime.errors import EngineError
from newsdesk.server.runtime.gpu import Gpu
from tests import tiny

HERE = Gpu("NVIDIA H100", "9.0", "13.0")
PLAN = plans.Plan(
    runtime="tensorrt", version="10.13.3.9", compute_capabilities=["9.0"], batches=[1, 8], lengths=[32], cuda="13.0"
)
AHEAD = msgspec.structs.replace(PLAN, runtime="tensorrt_rtx", version="1.7.1.116", compute_capabilities=["8.9", "12.0"])


def refuse(plan: plans.Plan, here: Gpu | None = HERE, version: str = "") -> None:
    plans.refuse("minilm, tensorrt:fp16", plan, "newsdesk build --recipe own", here, version or plan.version)


def test_the_machine_it_was_built_on_takes_it():
    refuse(PLAN)
    refuse(AHEAD, Gpu("NVIDIA L40S", "8.9", "13.0"))
    refuse(msgspec.structs.replace(AHEAD, compute_capabilities=[]), Gpu("NVIDIA A10", "8.6", "13.0"))


@pytest.mark.parametrize(
    ("plan", "here", "version", "complaint"),
    [
        (PLAN, None, "", "has no NVIDIA GPU, or no driver. Serve another target"),
        (
            PLAN,
            HERE,
            "10.14.0.1",
            "10.13.3.9 for compute capability 9.0, but this is tensorrt 10.14.0.1. Build it again",
        ),
        (PLAN, Gpu("NVIDIA L4", "8.9", "13.0"), "", r"but this is NVIDIA L4 with 8.9. .*newsdesk build --recipe own"),
        (AHEAD, HERE, "", r"for compute capability 8.9, 12.0, but this is NVIDIA H100 with 9.0"),
        (
            msgspec.structs.replace(PLAN, version_compatible=True),
            HERE,
            "10.12.0.1",
            "but this is the older tensorrt 10.12",
        ),
    ],
)
def test_another_machine_is_refused_with_what_differs(plan, here, version, complaint):
    with pytest.raises(EngineError, match=complaint):
        refuse(plan, here, version)


@pytest.mark.parametrize(
    ("changes", "here", "version"),
    [
        ({"version_compatible": True}, HERE, "10.13.3.9"),
        ({"hardware": "ampere-plus"}, Gpu("NVIDIA A100", "8.0", "13.0"), ""),
        ({"version_compatible": True}, HERE, "10.14.0.1"),
        ({"hardware": "ampere-plus"}, Gpu("NVIDIA L4", "8.9", "13.0"), ""),
        ({}, HERE, "10.13.3.20"),
    ],
)
def test_what_was_built_to_be_compatible_is(changes, here, version):
    refuse(msgspec.structs.replace(PLAN, **changes), here, version)


@pytest.mark.parametrize("plan", [PLAN, msgspec.structs.replace(AHEAD, compute_capabilities=[])])
def test_no_plan_runs_on_what_is_older_than_ampere(plan: plans.Plan):
    plan = msgspec.structs.replace(plan, hardware="ampere-plus")
    refuse(plan, Gpu("NVIDIA A100", "8.0", "13.0"))
    with pytest.raises(EngineError, match=r"but this is NVIDIA T4 with 7\.5"):
        refuse(plan, Gpu("NVIDIA T4", "7.5", "13.0"))


@pytest.mark.parametrize(
    ("package", "version", "complaint"),
    [
        ("tensorrt_cu12", "10.13.3.9", ""),
        ("tensorrt_cu13", "10.12.0.1", r"but this is tensorrt 10\.12\.0\.1\. Build it again here: newsdesk build$"),
        ("tensorrt_rtx", "1.7.1", "but tensorrt is not installed here: pip install tensorrt$"),
    ],
)
def test_a_plan_is_compared_with_the_gpu_and_the_runtime_of_here(package, version, complaint, monkeypatch):
    def read(name: str) -> str:
        if name != package:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", read)
    monkeypatch.setattr(gpu, "find", lambda: HERE)
    with pytest.raises(EngineError, match=complaint) if complaint else contextlib.nullcontext():
        plans.check("minilm, tensorrt:fp16", PLAN, "newsdesk build")


def test_a_chosen_plan_is_checked_and_the_command_is_the_builds_own(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "find", lambda: None)
    made = tiny.write(tmp_path)
    (member,) = made.members
    graphs = {**member.graphs, "tensorrt_rtx:fp16": member.graphs["fp32"]}
    member = msgspec.structs.replace(member, graphs=graphs, plans={"tensorrt_rtx:fp16": AHEAD})
    made = msgspec.structs.replace(made, members=[member], built=[{"stage": "recipe", "command": "newsdesk build x"}])
    manifest.save(made, tmp_path)
    loaded = manifest.load(tmp_path)
    assert loaded.members[0].plans["tensorrt_rtx:fp16"] == AHEAD
    assert targets.rebuild(loaded) == "newsdesk build x"
    targets.check("onnxruntime:fp32", loaded)
    with pytest.raises(
        EngineError, match=r"member tiny, tensorrt_rtx:fp16: built with tensorrt_rtx 1.7.1.116 .* no NVIDIA GPU"
    ):
        targets.check("tensorrt_rtx:fp16", loaded)

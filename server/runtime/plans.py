"""Compiled engines in a model folder: what each was built with and for, and whether it may be loaded here.

A plan that was built elsewhere fails to load with a line that helps nobody, or worse, loads and is slow. So it is
compared with this machine before Triton sees the file.
"""

import importlib.metadata
from typing import Literal

from msgspec import Struct

from newsdesk.server.runtime import gpu
from newsdesk.server.runtime.errors import EngineError
from newsdesk.server.runtime.gpu import Gpu

PACKAGES = {
    "tensorrt": ("tensorrt", "tensorrt_cu13", "tensorrt_cu12"),
    "tensorrt_rtx": ("tensorrt_rtx_cu13", "tensorrt_rtx_cu12", "tensorrt_rtx"),
}
_RTX_FROM = (8, 0)
"""The oldest compute capability that TensorRT-RTX runs on unless it was built for an older one."""


class Plan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The record of what an engine was built with and for."""

    runtime: Literal["tensorrt", "tensorrt_rtx"]
    version: str
    """The version of TensorRT: "10.13.3.9"."""
    compute_capabilities: list[str]
    """tensorrt: of the GPU that it was built on. tensorrt_rtx: those that it was built for."""
    hardware: Literal["same", "same-capability", "ampere-plus"] = "same"
    version_compatible: bool = False
    gpu: str = ""
    """The GPU that it was built on; empty where it was built ahead of time."""
    cuda: str = ""
    batches: list[int]
    """Ends of the buckets of batches; the last is the most texts at once."""
    lengths: list[int]
    """Ends of the buckets of lengths, in tokens."""
    products: dict[str, float] = {}
    """Precision → the share of matrix products that multiply in it."""


def check(target: str, plan: Plan, command: str) -> None:
    """Check that this machine can run a plan.

    Args:
        target: stands in the message
        plan: as the manifest has it
        command: builds the plan again

    Raises:
        EngineError: the machine cannot run it.
    """
    refuse(target, plan, command, gpu.find(), installed(plan.runtime))


def installed(runtime: str) -> str:
    """Return the version of a TensorRT that is installed here, or ""."""
    for package in PACKAGES[runtime]:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def refuse(target: str, plan: Plan, command: str, here: Gpu | None, version: str) -> None:
    """Compare a plan with a GPU and an installed version.

    Args:
        target: stands in the message
        plan: as the manifest has it
        command: builds the plan again
        here: the machine's GPU
        version: of the plan's runtime that is installed; empty where none is

    Raises:
        EngineError: both sides of what differs.
    """
    built = f"{target}: built with {plan.runtime} {plan.version} for compute capability " + ", ".join(
        plan.compute_capabilities
    )
    rebuild = f"Build it again here: {command}"
    if here is None:
        raise EngineError(f"{built}, but this machine has no NVIDIA GPU, or no driver. Serve another target here.")
    if not version:
        raise EngineError(f"{built}, but {plan.runtime} is not installed here: pip install {PACKAGES[plan.runtime][0]}")
    ours, theirs = _numbers(version), _numbers(plan.version)
    if plan.version_compatible:
        if ours < theirs:
            raise EngineError(f"{built}, but this is the older {plan.runtime} {version}. {rebuild}")
    elif ours[:3] != theirs[:3]:
        raise EngineError(f"{built}, but this is {plan.runtime} {version}. {rebuild}")
    if not _fits(plan, _numbers(here.compute_capability)):
        raise EngineError(f"{built}, but this is {here.name} with {here.compute_capability}. {rebuild}")


def _fits(plan: Plan, ours: tuple[int, ...]) -> bool:
    theirs = [_numbers(written) for written in plan.compute_capabilities]
    if plan.runtime == "tensorrt_rtx":
        return ours in theirs if theirs else ours >= _RTX_FROM
    return ours >= _RTX_FROM if plan.hardware == "ampere-plus" else ours in theirs


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())

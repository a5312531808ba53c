"""Build TensorRT engines, with the API that `tensorrt` (10.12 and later, 11) and `tensorrt_rtx` share.

Networks are strongly typed: every precision stands in the ONNX file, none in a builder's flag. TensorRT-RTX builds
ahead of time on a machine without a GPU; TensorRT itself needs the GPU that it builds for.
"""

import importlib
import re
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from msgspec import Struct

from newsdesk.build.compile.profiles import Profile
from newsdesk.build.errors import BuildError
from newsdesk.build.recipe import Engines

INSTALL = {"tensorrt": "pip install 'tensorrt>=10.12'", "tensorrt_rtx": "pip install 'newsdesk[tensorrt]'"}
_OLDEST = {"tensorrt": (10, 3), "tensorrt_rtx": (1, 1)}
"""JetPack 6 has 10.3; strongly typed networks are older."""
_HARDWARE = {"same": "NONE", "same-capability": "SAME_COMPUTE_CAPABILITY", "ampere-plus": "AMPERE_PLUS"}
_PRODUCTS = "MATRIX_MULTIPLY"
_PASSED_THROUGH = {"SHUFFLE", "IDENTITY", "CAST", "SQUEEZE", "UNSQUEEZE"}
"""Layers between a DQ and the product that reads it, which change no precision."""


class EngineFigures(Struct, frozen=True, kw_only=True):
    """An engine that was built."""

    runtime: str
    version: str
    """The runtime's."""
    seconds: float
    """The time that its building took."""
    mib: float
    profiles: int
    products: dict[str, float]
    """The share of the matrix products that multiply in each precision."""
    layers: int
    warnings: int
    """Lines of the log."""


def runtime(name: str) -> ModuleType:
    """Import a TensorRT.

    Raises:
        BuildError: it is missing or too old; the message says what to install.
    """
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise BuildError(f"{name} is not installed here ({error}): {INSTALL[name]}") from error
    version = tuple(map(int, re.findall(r"\d+", module.__version__)[:2]))
    if version < _OLDEST[name]:
        oldest = ".".join(map(str, _OLDEST[name]))
        raise BuildError(f"{name} {module.__version__} is too old, expected {oldest} or later: {INSTALL[name]}")
    return module


def build(graph: Path, plan: Path, name: str, profiles: list[Profile], settings: Engines) -> EngineFigures:
    """Build an engine, and return the figures; the build's log lies beside the plan.

    Args:
        graph: ONNX, every precision written into it
        plan: the file to write
        name: "tensorrt" or "tensorrt_rtx"
        profiles: of shapes, texts × tokens
        settings: of the builder

    Raises:
        BuildError: the parser's or the builder's own errors.
    """
    trt = runtime(name)
    log = _log(trt)
    builder = trt.Builder(log)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, log)
    start = time.perf_counter()
    if not parser.parse_from_file(str(graph)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        reasons = "; ".join(f"{error.node_name() or error.node()}: {error.desc()}".splitlines()[0] for error in errors)
        raise BuildError(f"{name} {trt.__version__} cannot read {graph.name}: {reasons}")
    config = _configure(trt, builder, settings, plan.with_suffix(".timing"))
    for profile in profiles:
        shapes = builder.create_optimization_profile()
        for i in range(network.num_inputs):
            shapes.set_shape(network.get_input(i).name, profile.least, profile.best, profile.most)
        if config.add_optimization_profile(shapes) < 0:
            raise BuildError(f"{name} refuses the profile {profile.least} to {profile.most}: {log.last_error()}")
    serialised = builder.build_serialized_network(network, config)
    plan.with_suffix(".log").write_text(log.text())
    if serialised is None:
        raise BuildError(f"{name} {trt.__version__} cannot build {graph.name}: {log.last_error()}")
    if name == "tensorrt":
        plan.with_suffix(".timing").write_bytes(config.get_timing_cache().serialize())
    plan.write_bytes(serialised)
    return EngineFigures(
        runtime=name,
        version=trt.__version__,
        seconds=round(time.perf_counter() - start, 2),
        mib=round(serialised.nbytes / 2**20, 2),
        profiles=len(profiles),
        products=products(network),
        layers=network.num_layers,
        warnings=log.warnings,
    )


def products(network: Any) -> dict[str, float]:
    """Return the share of the matrix products that multiply in each precision: {"int8": 0.75, "fp16": 0.25}.

    In a strongly typed network that is what will run. A product reads int8 or fp8 where a DQ feeds both of its sides.
    """
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    sources = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    counts: Counter[str] = Counter()
    for layer in layers:
        if layer.type.name == _PRODUCTS:
            sides = {_precision(layer.get_input(i), sources) for i in range(2)}
            counts[sides.pop() if len(sides) == 1 else _type(layer.get_output(0).dtype)] += 1
    return {kind: round(count / counts.total(), 3) for kind, count in sorted(counts.items())}


def _precision(tensor: Any, sources: Mapping[str, Any]) -> str:
    layer = sources.get(tensor.name)
    while layer is not None and layer.type.name in _PASSED_THROUGH:
        layer = sources.get(layer.get_input(0).name)
    if layer is not None and layer.type.name == "DEQUANTIZE":
        return _type(layer.get_input(0).dtype)
    return _type(tensor.dtype)


def _type(dtype: Any) -> str:
    return {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16"}.get(dtype.name, dtype.name.lower())


def _configure(trt: ModuleType, builder: Any, settings: Engines, timings: Path) -> Any:
    """Return the builder's configuration. A setting of the recipe that a runtime does not have is an error."""
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    config.builder_optimization_level = settings.optimization_level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    ahead_of_time = trt.__name__ == "tensorrt_rtx"
    if ahead_of_time:
        # The application gives the memory, so that a stream can be captured into a CUDA graph.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        wanted = [_capability(trt, written) for written in settings.compute_capabilities]
        config.num_compute_capabilities = len(wanted)
        for i, capability in enumerate(wanted):
            config.set_compute_capability(capability, i)
    else:
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, _HARDWARE[settings.hardware])
        # TensorRT-RTX has none to keep: it measures nothing ahead of time, and asking for one makes it look for a GPU.
        config.set_timing_cache(config.create_timing_cache(timings.read_bytes() if timings.exists() else b""), True)
    return config


def _capability(trt: ModuleType, written: str) -> Any:
    """Return "8.9" as the runtime's own. Raises BuildError with what it knows."""
    known = [name for name in dir(trt.ComputeCapability) if name.startswith("SM")]
    name = f"SM{written.replace('.', '')}"
    if name not in known:
        shown = ", ".join(sorted((f"{number[2:-1]}.{number[-1]}" for number in known), key=float))
        raise BuildError(
            f"compute capability {written!r}: {trt.__name__} {trt.__version__} builds for {shown}. Leave out what it "
            "does not know (recipe: engines.compute_capabilities), or build with tensorrt on that GPU."
        )
    return getattr(trt.ComputeCapability, name)


def _log(trt: ModuleType) -> Any:
    """Return the process's logger of this runtime, emptied: TensorRT keeps the first that it was given."""
    if trt.__name__ not in _LOGS:

        class Log(trt.ILogger):  # type: ignore[name-defined]
            """Keeps what the builder says, but for the thousands of verbose lines."""

            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.lines: list[tuple[str, str]] = []

            def log(self, severity: Any, message: str) -> None:
                name = getattr(severity, "name", str(severity))
                if name != "VERBOSE":
                    self.lines.append((name, message))

            def text(self) -> str:
                return "".join(f"{severity}: {message}\n" for severity, message in self.lines)

            def last_error(self) -> str:
                errors = [message for severity, message in self.lines if "ERROR" in severity]
                return errors[-1] if errors else "it gave no reason"

            @property
            def warnings(self) -> int:
                return sum(severity == "WARNING" for severity, _ in self.lines)

        _LOGS[trt.__name__] = Log()
    _LOGS[trt.__name__].lines.clear()
    return _LOGS[trt.__name__]


_LOGS: dict[str, Any] = {}

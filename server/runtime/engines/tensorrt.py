"""TensorRT and TensorRT-RTX on the GPU, written to the API that both share.

A stream an engine, so that members overlap. A shape of the grid has slots: its own execution context, page-locked
buffers and CUDA graph, captured once. A group is queued into a free slot and nobody waits; the results are waited for
where they are read, the first wait being the only one that takes time.
"""

import importlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.batching import Shapes
from newsdesk.server.runtime.engines import cuda
from newsdesk.server.runtime.engines.engine import Engine
from newsdesk.server.runtime.errors import EngineError
from newsdesk.server.runtime.grids import Grid

_INPUTS = "input_ids", "attention_mask", "token_type_ids"
_OUTPUT = "logits"
Profile = tuple[tuple[int, ...], ...]
"""The least, the best and the most shape that a range of kernels takes."""


class TensorRt(Engine):
    """Runs a plan.

    Raises:
        EngineError: this TensorRT or this GPU cannot load it.
    """

    def __init__(self, plan: Path, runtime: str) -> None:
        self._trt = trt = importlib.import_module(runtime)
        self._stream = cuda.new_stream()  # first: without a GPU TensorRT only says that it failed
        self._log = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise EngineError(
                f"{plan.name}: {runtime} {trt.__version__} does not load it; it was built by another version or for "
                "another GPU. The manifest says which; newsdesk build makes it for this machine."
            )
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self._inputs = [name for name in _INPUTS if name in names]
        self._labels = self._engine.get_tensor_shape(_OUTPUT)[-1]
        self._profiles = [
            tuple(map(tuple, self._engine.get_tensor_profile_shape(_INPUTS[0], i)))
            for i in range(self._engine.num_optimization_profiles)
        ]
        self._grid = grid_of(self._profiles)
        scratch = self._engine.device_memory_size_v2
        self._scratch = cuda.device(scratch), scratch  # shared: what is queued on one stream runs in turn
        self._free: dict[tuple[int, int], list[_Slot]] = defaultdict(list)

    def shapes(self, most: int) -> Shapes:
        """Return the grid of the plan's own profiles."""
        return self._grid

    def submit(self, ids: Array, mask: Array) -> Callable[[], Array]:
        """Queue a group into a free slot of its shape, or a new one."""
        shape = self._grid.fit(*ids.shape)
        slot = self._free[shape].pop() if self._free[shape] else self._new_slot(shape)
        slot.queue(ids, mask)

        def result() -> Array:
            logits = slot.wait(ids.shape[0])
            self._free[shape].append(slot)
            return logits

        return result

    def close(self) -> None:
        """Wait for what is queued, and free all memory on the GPU."""
        cuda.synchronise(self._stream)
        for slots in self._free.values():
            for slot in slots:
                slot.close()
        self._free.clear()
        cuda.free(self._scratch[0])
        self._engine = self._runtime = None

    def _new_slot(self, shape: tuple[int, int]) -> "_Slot":
        profile = profile_of(self._profiles, shape)
        context = self._engine.create_execution_context(self._strategy())
        context.set_device_memory(*self._scratch)
        if profile and not context.set_optimization_profile_async(profile, int(self._stream)):
            raise EngineError(f"TensorRT refuses profile {profile} for the shape {shape}")
        return _Slot(context, self._stream, self._inputs, shape, self._labels)

    def _strategy(self) -> Any:
        trt = self._trt
        managed = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
            return managed
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(managed)
        # TensorRT-RTX: compile for the very shape before it is captured, else the general kernels are in the graph.
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        return config


class _Slot:
    """One shape's buffers and its CUDA graph, busy from `queue` to `wait`."""

    def __init__(self, context: Any, stream: Any, inputs: list[str], shape: tuple[int, int], labels: int) -> None:
        self._context, self._stream, self._event = context, stream, cuda.new_event()
        self._host = {name: cuda.pinned(shape, np.int64) for name in inputs[:2]}
        self._logits = cuda.pinned((shape[0], labels), np.float32)
        self._device = {name: cuda.device(shape[0] * shape[1] * 8) for name in inputs}  # token types stay 0
        self._device[_OUTPUT] = cuda.device(self._logits.nbytes)
        for name in inputs:
            if not context.set_input_shape(name, shape):
                raise EngineError(f"TensorRT refuses the shape {shape} for {name}")
        for name, address in self._device.items():
            context.set_tensor_address(name, address)
        self._graph: Any = None
        self._enqueue()  # once outside: kernels are loaded lazily, which a capture does not allow
        cuda.synchronise(stream)
        if not hasattr(context, "is_stream_capturable") or context.is_stream_capturable(int(stream)):
            with cuda.captured(stream) as graphs:
                self._enqueue()
            (self._graph,) = graphs

    def queue(self, ids: Array, mask: Array) -> None:
        rows, columns = ids.shape
        for name, values in zip(_INPUTS, (ids, mask), strict=False):
            held = self._host[name]
            held[:] = 0
            held[:rows, :columns] = values
        if self._graph is None:
            self._enqueue()
        else:
            cuda.launch(self._graph, self._stream)
        cuda.record(self._event, self._stream)

    def close(self) -> None:
        """Free the buffers. Nothing may be queued any more."""
        self._graph = self._context = None
        for address in self._device.values():
            cuda.free(address)
        for held in (*self._host.values(), self._logits):
            cuda.free_pinned(held)

    def wait(self, rows: int) -> Array:
        cuda.wait(self._event)
        return self._logits[:rows].copy()

    def _enqueue(self) -> None:
        for name, held in self._host.items():
            cuda.upload(held, self._device[name], self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineError("TensorRT could not queue a batch; its log says why")
        cuda.download(self._device[_OUTPUT], self._logits, self._stream)


def grid_of(profiles: list[Profile]) -> Grid:
    """Return the grid whose shapes are the ends of an engine's profiles.

    Where a profile spans many batches (TensorRT-RTX's do), the powers of two within it are shapes too.

    Args:
        profiles: each the (least, best, most) shape, texts × tokens
    """
    batches, lengths = set(), set()
    for least, _, most in profiles:
        batches |= {most[0], *(size for size in _BETWEEN if least[0] <= size <= most[0])}
        lengths.add(most[1])
    return Grid(sorted(batches), sorted(lengths))


def profile_of(profiles: list[Profile], shape: tuple[int, int]) -> int:
    """Return the number of the profile that holds a shape.

    Args:
        profiles: each the (least, best, most) shape, texts × tokens
        shape: texts × tokens

    Raises:
        EngineError: no profile holds it.
    """
    for number, (least, _, most) in enumerate(profiles):
        if all(low <= at <= high for low, at, high in zip(least, shape, most, strict=True)):
            return number
    raise EngineError(f"no optimisation profile of this engine holds the shape {shape}, only {profiles}")


_BETWEEN = (1, 8, 32, 128)

"""The little of CUDA that an engine needs, through cuda-bindings: streams, memory, events and graphs."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from cuda.bindings import runtime as cuda

from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.errors import EngineError

_NON_BLOCKING = 1
_NO_TIMING = 2
NO_DRIVER = {cuda.cudaError_t.cudaErrorInsufficientDriver, cuda.cudaError_t.cudaErrorNoDevice}


def call(function: Callable[..., tuple[Any, ...]], *arguments: Any) -> Any:
    """Call CUDA and return what it gives: nothing, one value or a list.

    Raises:
        EngineError: CUDA's own words for what failed.
    """
    error, *results = function(*arguments)
    if error in NO_DRIVER:
        raise EngineError("this machine has no NVIDIA GPU, or no driver for it. Serve a target of the processor.")
    if error != cuda.cudaError_t.cudaSuccess:
        message = cuda.cudaGetErrorString(error)[1]
        raise EngineError(f"{function.__name__}: {message.decode() if isinstance(message, bytes) else message}")
    return results[0] if len(results) == 1 else results


def new_stream() -> Any:
    """Return a stream that does not wait for the default one."""
    return call(cuda.cudaStreamCreateWithFlags, _NON_BLOCKING)


def new_event() -> Any:
    """Return an event that keeps no time."""
    return call(cuda.cudaEventCreateWithFlags, _NO_TIMING)


def device(nbytes: int) -> int:
    """Return the address of `nbytes` bytes of memory on the GPU, zeroed, until `free`."""
    address = call(cuda.cudaMalloc, max(nbytes, 1))
    call(cuda.cudaMemset, address, 0, max(nbytes, 1))
    return int(address)


def pinned(shape: tuple[int, ...], dtype: type) -> Array:
    """Return a zeroed array in page-locked memory, until `free_pinned`: copies to and from the GPU do not wait."""
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    address = call(cuda.cudaHostAlloc, nbytes, 0)
    memory = memoryview((ctypes.c_char * nbytes).from_address(int(address)))
    array: Array = np.frombuffer(memory, dtype).reshape(shape)
    array[:] = 0
    return array


def free(address: int) -> None:
    """Give memory on the GPU back."""
    call(cuda.cudaFree, address)


def free_pinned(array: Array) -> None:
    """Give page-locked memory back. Nobody may read the array any more."""
    call(cuda.cudaFreeHost, array.ctypes.data)


def upload(source: Array, target: int, stream: Any) -> None:
    """Queue the copy of an array to an address on the GPU."""
    kind = cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
    call(cuda.cudaMemcpyAsync, target, source.ctypes.data, source.nbytes, kind, stream)


def download(source: int, target: Array, stream: Any) -> None:
    """Queue the copy of memory on the GPU to an array, which must be as large."""
    kind = cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
    call(cuda.cudaMemcpyAsync, target.ctypes.data, source, target.nbytes, kind, stream)


def record(event: Any, stream: Any) -> None:
    """Queue an event behind what the stream has to do."""
    call(cuda.cudaEventRecord, event, stream)


def wait(event: Any) -> None:
    """Wait until the stream has come to an event."""
    call(cuda.cudaEventSynchronize, event)


def launch(graph: Any, stream: Any) -> None:
    """Queue a captured graph."""
    call(cuda.cudaGraphLaunch, graph, stream)


def synchronise(stream: Any) -> None:
    """Wait until a stream has nothing more to do."""
    call(cuda.cudaStreamSynchronize, stream)


@contextmanager
def captured(stream: Any) -> Iterator[list[Any]]:
    """Capture what is queued inside; the list yielded then holds the graph, ready to launch."""
    graphs: list[Any] = []
    call(cuda.cudaStreamBeginCapture, stream, cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
    try:
        yield graphs
    finally:
        graph = call(cuda.cudaStreamEndCapture, stream)
    graphs.append(call(cuda.cudaGraphInstantiate, graph, 0))

"""The GPU of this machine, asked of the driver itself: no package is needed to know that there is none."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""
_NAME_BYTES = 256


@dataclass(frozen=True)
class Gpu:
    """A GPU, as its driver describes it."""

    name: str
    compute_capability: str
    """ "9.0" """
    cuda: str
    """The newest CUDA that the driver runs: "13.0"."""


@cache
def find() -> Gpu | None:
    """Return the first GPU, or None where there is no driver or no GPU."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, version = ctypes.c_int(), ctypes.c_int()
    major, minor = ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    calls: list[Callable[[], int]] = [
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(ctypes.byref(device), 0),
        lambda: driver.cuDeviceGetName(name, _NAME_BYTES, device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device),
        lambda: driver.cuDriverGetVersion(ctypes.byref(version)),
    ]
    if any(call() for call in calls):  # in order, to the first error
        return None
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Gpu(name.value.decode(), f"{major.value}.{minor.value}", cuda)

"""This machine's processor, as Linux describes it in /proc/cpuinfo."""

import platform
import re
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8", "i8mm"}
_KERNELS = re.compile(r"avx|amx|asimd|i8mm|bf16|sve")
"""The beginnings of those features that decide which kernels run."""


def name() -> str:
    """Return the model's name."""
    return _read().get("model name") or platform.processor() or platform.machine()


def features() -> set[str]:
    """Return its flags, as x86 and Arm spell them; none where there is no such file."""
    fields = _read()
    return set(fields.get("flags", fields.get("Features", "")).split())


def changes_answers() -> list[str]:
    """Return those of its features that change how int8 or bf16 is summed up, sorted."""
    return sorted((BF16 | _INT8) & features())


def adds_in_16_bits() -> bool:
    """Whether its fast int8 products are sums of two in 16 bits: x86 without VNNI."""
    return platform.machine() in ("x86_64", "AMD64") and not _INT8 & features()


def describe() -> str:
    """Return its name and the features that int8 and bf16 gain by, for a report."""
    return f"{name()} ({' '.join(changes_answers()) or 'neither VNNI nor bf16'})"


def kernels() -> str:
    """Return its name and every feature that decides which kernels run."""
    return f"{name()} ({' '.join(sorted(filter(_KERNELS.match, features())))})"


def _read() -> dict[str, str]:
    try:
        return dict(re.findall(r"^([\w ]+?)\s*: (.*)$", CPUINFO.read_text(), re.MULTILINE))
    except OSError:
        return {}

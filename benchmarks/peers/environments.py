"""A virtual environment for each peer, made once: what one pins, the next can't bear."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements")


def python(name: str, cache: Path) -> Path:
    """Return the interpreter of a peer's environment with `requirements/<name>.txt` in it, made if missing or changed.

    Raises RuntimeError with pip's own words.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    folder = cache.absolute() / name
    interpreter, stamp = folder / "bin" / "python", folder / "requirements.sha256"
    wanted = sha256(requirements.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"installing {name} into {folder}", file=sys.stderr, flush=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(interpreter), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)])
        stamp.write_text(wanted)
    return interpreter


def versions(name: str) -> str:
    """Return what a peer's requirements pin, as "ray 2.60.0, torch 2.13.0"."""
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    pinned = (line.split("#")[0].strip() for line in lines)
    return ", ".join(line.replace("==", " ") for line in pinned if line)


def _run(command: list[str]) -> None:
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {ran.returncode}\n{ran.stderr[-4000:]}")

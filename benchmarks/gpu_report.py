"""Everything that there is to know of newsdesk on a GPU, by one command and within minutes.

    python -m benchmarks.gpu_report                     # on a machine with a GPU, Python and a package index
    python -m benchmarks.gpu_report --here --rehearse   # without a GPU: the same steps, on the CPU's targets

It installs what is missing into an environment of its own (`--here`: nothing, they are there). It converts the shipped
model (`newsdesk convert`), with engines of TensorRT and of TensorRT-RTX. It runs `benchmarks.gpu` for one target after
the other: parity with the CPU, articles a second and latency by clients, share of the measured peak, profile.

The page and the JSON file beside it are written after each step, so that they hold what was done when the time is over.
A step that fails or is cut off is named there, and the next one begins.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks import MODEL
from newsdesk.server.runtime import gpu, processor
from newsdesk.server.serving.settings import Settings, granted_cores

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "benchmarks/results/gpu.md"
_KEPT = 4000
"""Characters of a step's output that the JSON file keeps: its end says why it failed."""


class Step(NamedTuple):
    """A command, and the most seconds that it may take."""

    name: str
    command: list[str]
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480, help="for all steps together")
    parser.add_argument("--here", action="store_true", help="install nothing: use the packages of this Python")
    parser.add_argument("--rehearse", action="store_true", help="targets of the CPU, and short measurements")
    parser.add_argument("--environment", type=Path, default=ROOT / ".cache/gpu", help="where packages are installed")
    parser.add_argument(
        "--model", type=Path, default=Settings().model_repository / MODEL, help="a built model's folder"
    )
    parser.add_argument("--texts", type=Path, help="CSV with title and description; made-up articles without it")
    parser.add_argument("--write", type=Path, default=PAGE, help="the page; the JSON file lies beside it")
    options = parser.parse_args()
    if not options.rehearse and gpu.find() is None:
        sys.exit("this machine has no NVIDIA GPU, or no driver (libcuda.so.1). Try the steps with --here --rehearse.")
    python = sys.executable if options.here else str(options.environment / "bin" / "python")
    steps = [] if options.here else installing(options.environment)
    report(
        [*steps, *measuring(python, options.model, options.texts, options.write, options.rehearse)],
        options.seconds,
        options.write,
    )


def installing(environment: Path) -> list[Step]:
    """Return the steps that make an environment with what a GPU needs."""
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    return [
        Step("environment", [sys.executable, "-m", "venv", str(environment)], 60),
        Step(
            "packages", [*pip, "--editable", f"{ROOT}[serve,build,gpu,tensorrt,test]", "torch", "tensorrt>=10.12"], 300
        ),
    ]


def measuring(python: str, model: Path, texts: Path | None, page: Path, rehearse: bool) -> list[Step]:
    """Return the steps that convert the model and measure it, what matters most first."""
    converted = ROOT / ".cache" / "gpu_repository"
    here = gpu.find()
    newsdesk = [str(Path(python).with_name("newsdesk"))]
    convert = [*newsdesk, "convert", str(model), "--output", str(converted)]
    if rehearse:
        convert += ["--variant", "fp32"]
        targets, load = ["onnxruntime:fp32", "openvino:fp32"], ["--seconds", "1", "--clients", "1", "8"]
    else:
        convert += ["--engine", "tensorrt", "--engine", "tensorrt_rtx"]
        convert += ["--compute-capability", here.compute_capability] if here else []
        targets = ["tensorrt:fp16", "tensorrt:int8-fp16", "tensorrt_rtx:fp16", "onnxruntime-cuda:fp16"]
        load = ["--seconds", "4", "--clients", "1", "32", "128", "512", "--instances", "1", "4", "8"]
    measure = [python, "-m", "benchmarks.gpu", "--model-repository", str(converted), "--write", str(page), *load]
    measure += ["--texts", str(texts)] if texts else []
    return [
        Step("doctor", [*newsdesk, "doctor"], 30),
        Step("convert", convert, 240),
        *(Step(target, [*measure, "--target", target], 150) for target in targets),
    ]


def report(steps: list[Step], seconds: float, page: Path) -> list[dict[str, object]]:
    """Run the steps within the seconds, write what became of them after each, and return that."""
    end = time.monotonic() + seconds
    about = {"machine": processor.describe(), "cores": granted_cores(), "gpu": str(gpu.find() or "none")}
    about["date"] = time.strftime("%Y-%m-%d")
    page.parent.mkdir(parents=True, exist_ok=True)
    done: list[dict[str, object]] = []
    for step in steps:
        left = min(step.seconds, end - time.monotonic())
        print(f"{step.name}: at most {max(left, 0):.0f} s", file=sys.stderr, flush=True)
        done.append({"step": step.name, "command": " ".join(step.command), **run(step.command, left)})
        page.with_suffix(".json").write_text(json.dumps({**about, "steps": done}, indent=1) + "\n")
    return done


def run(command: list[str], seconds: float) -> dict[str, object]:
    """Run a command for at most so many seconds; return how it ended, its seconds and the end of its output."""
    if seconds <= 0:
        return {"ended": "not begun: the time was over", "seconds": 0.0, "output": ""}
    began = time.monotonic()
    try:
        ran = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, check=False
        )
        ended, output = f"exit code {ran.returncode}", ran.stdout
    except subprocess.TimeoutExpired as error:
        ended, output = "cut off", error.stdout or b""
    except OSError as error:
        ended, output = f"not started: {error}", b""
    return {
        "ended": ended,
        "seconds": round(time.monotonic() - began, 1),
        "output": output.decode(errors="replace")[-_KEPT:],
    }


if __name__ == "__main__":
    main()

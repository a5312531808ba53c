"""The one command for a machine with a GPU: every step is written down, whatever becomes of it."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_report
from benchmarks.gpu_report import Step


def test_what_fails_is_cut_off_or_comes_too_late_is_written_down(tmp_path: Path) -> None:
    def python(program: str) -> list[str]:
        return [sys.executable, "-c", program]

    page = tmp_path / "results" / "gpu.md"
    steps = [
        Step("well", python("print('parity')"), 60),
        Step("fails", python("raise SystemExit('no engine')"), 60),
        Step("hangs", python("print('begun', flush=True); import time; time.sleep(600)"), 3),
        Step("missing", [str(tmp_path / "nothing")], 60),
    ]
    gpu_report.report(steps, 600, page)
    written = json.loads(page.with_suffix(".json").read_text())["steps"]
    assert [step["ended"].partition(":")[0] for step in written] == [
        "exit code 0",
        "exit code 1",
        "cut off",
        "not started",
    ]
    assert [step["output"].strip() for step in written[:3]] == ["parity", "no engine", "begun"]
    (late,) = gpu_report.report([Step("late", python("print('never')"), 60)], 0, page)
    assert (late["ended"], late["output"]) == ("not begun: the time was over", "")


def test_a_machine_without_a_gpu_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_report.gpu, "find", lambda: None)
    monkeypatch.setattr(sys, "argv", ["gpu_report"])
    with pytest.raises(SystemExit, match=r"no NVIDIA GPU.*--here --rehearse"):
        gpu_report.main()

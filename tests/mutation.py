"""Mutation tests: mutmut changes the code a place at a time, and the tests of its module must notice.

`python -m tests.mutation` runs every module of MODULES, `python -m tests.mutation text gate` those whose names are
given. It prints what survived, and writes what came of each module to PAGE, where its last cell stays as somebody wrote
it. One module is one run of mutmut, in a folder where the code lies under its import name: mutmut tells a mutant by
the path of its file. Only what stands in functions is changed, and no function with a decorator.

The cache is the build's (`artifacts`, `digests`): answers are kept by Triton itself. Retries are `hedging`, `breaker`,
`suspects` and the clients' `deadline`. Of the supervision `supervisor` and `keeper` are missing: nearly all of their
tests start a real Triton, which takes seconds for each of some hundred places.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests import threads

HERE = Path(__file__).parents[1]
FOLDER = HERE / ".cache" / "mutation"
PAGE = HERE / "tests" / "mutation.md"
RUNTIME, GATEWAY = "tests/server/runtime", "tests/server/gateway"
SERVING = "tests/server/serving"
_HEDGING = f"{GATEWAY}/test_hedging.py"
MODULES: dict[str, list[str]] = {
    "server/runtime/text.py": [f"{RUNTIME}/test_text.py"],
    "server/runtime/lookalikes.py": [f"{RUNTIME}/test_text.py"],
    "server/runtime/ngrams.py": [f"{RUNTIME}/test_ngrams.py"],
    "server/runtime/request.py": [f"{RUNTIME}/test_request.py"],
    "server/runtime/tokens.py": [f"{RUNTIME}/test_tokens.py"],
    "server/runtime/batching.py": [f"{RUNTIME}/test_batching.py"],
    "server/runtime/calibrate.py": [f"{RUNTIME}/test_calibrate.py"],
    "server/runtime/combine.py": [f"{RUNTIME}/test_combine.py"],
    "server/runtime/cascade.py": [f"{RUNTIME}/test_cascade.py", f"{RUNTIME}/test_unsure.py"],
    "server/runtime/manifest.py": [f"{RUNTIME}/test_manifest.py"],
    "server/runtime/golden.py": [f"{RUNTIME}/test_golden.py"],
    "server/runtime/grids.py": [f"{RUNTIME}/test_grids.py"],
    "server/runtime/unsure.py": [f"{RUNTIME}/test_unsure.py"],
    "server/runtime/plans.py": [f"{RUNTIME}/test_plans.py"],
    "server/runtime/windows.py": [f"{RUNTIME}/test_windows.py"],
    "server/runtime/processor.py": [f"{RUNTIME}/test_processor.py"],
    "build/data/cleaning.py": ["tests/build/test_cleaning.py"],
    "build/data/splits.py": ["tests/build/test_splits.py"],
    "build/ensemble/thresholds.py": ["tests/build/ensemble/test_thresholds.py"],
    "build/ensemble/risk.py": ["tests/build/ensemble/test_risk.py"],
    "build/ensemble/balance.py": ["tests/build/ensemble/test_balance.py::test_weights_of_equal_labels"],
    "build/compile/gate.py": ["tests/build/test_gate.py"],
    "build/compile/verify.py": ["tests/build/test_verify.py"],
    "server/gateway/keys.py": [f"{GATEWAY}/test_keys.py"],
    "server/gateway/tokens.py": [f"{GATEWAY}/test_tokens.py"],
    "server/gateway/rates.py": [f"{GATEWAY}/test_rates.py"],
    "server/gateway/hedging.py": [_HEDGING],
    "server/gateway/breaker.py": [_HEDGING],
    "server/gateway/suspects.py": [f"{GATEWAY}/test_suspects.py"],
    "server/serving/probes.py": [f"{SERVING}/test_probes.py"],
    "server/serving/pauses.py": [f"{SERVING}/test_pulse.py"],
    "server/serving/pulse.py": [f"{SERVING}/test_pulse.py"],
    "server/serving/hung.py": [f"{SERVING}/test_hung.py"],
    "build/pipeline/artifacts.py": ["tests/build/pipeline/test_artifacts.py"],
    "build/pipeline/digests.py": ["tests/build/pipeline/test_digests.py"],
    "clients/calls.py": ["tests/clients/test_calls_alone.py", "tests/clients/test_calls_of_threads.py"],
    "clients/deadline.py": ["tests/clients/test_deadline.py"],
}
"""Each module that is changed, and the tests that are to notice; of those, none of LEFT_OUT is run."""
LEFT_OUT = (
    "in_memory or two_gateways or storage_that_is_away or process_that_hangs or gone_for_good "
    "or linear or in_a_loop or amplify_an_overload or many_threads or promise_is_kept "
    "or stricter_promise or every_slice or cheapest_point or path_runs "
    "or a_classifier_marks or marks_nothing or as_often_as_it_says "
    "or on_every_engine or no_number_fails or a_tampered_weight"
)
"""Parts of the names of tests that start a server, or take seconds."""
CAUGHT = {"killed", "timeout"}
PASSED_OVER = "cacheprovider", "cloudcoil", "locust", "schemathesis", "threadexception", "unraisableexception"
"""Plugins of pytest that take longer than a test: the last one collects garbage at the end of each run."""
LOADED = {"build": "hypothesis, torch, transformers", "server": "hypothesis", "clients": "hypothesis"}
"""The packages that take long to import, and that every process of a run is to have from the one that it forks from."""


def run(module: str, tests: list[str]) -> Counter[str]:
    """Run mutmut over a module with its tests, and return how many mutants came to which end.

    Raises CalledProcessError where the tests fail on the code as it is.
    """
    # The tests, which read MODULES, do without mutmut.
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.stats import status_by_exit_code

    folder = FOLDER / module.replace("/", ".").removesuffix(".py")
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("server", "clients", "build"):
        shutil.copytree(HERE / part, folder / "newsdesk" / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(HERE / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    settings = {
        "source_paths": ["newsdesk"],
        "only_mutate": [f"newsdesk/{module}"],
        "pytest_add_cli_args": [
            *(f"-pno:{plugin}" for plugin in PASSED_OVER),
            "--hypothesis-profile=mutation",
            "--hypothesis-seed=0",
            "-k",
            f"not ({LEFT_OUT})",
            "--timeout=40",  # seconds, on a busy machine: a test that waits for what a mutant never does
        ],
        "pytest_add_cli_args_test_selection": tests,
        "process_isolation": "forkserver",  # a fork of a process that has loaded an engine may wait for ever
        "timeout_constant": 2.0,  # times 15: on a busy machine a slow run is no endless one
        "use_git_change_detection": False,
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    (folder / "pyproject.toml").write_text(
        "\n".join([(HERE / "pyproject.toml").read_text(), "[tool.mutmut]", *lines, ""])
    )
    begin = f"import {LOADED[module.partition('/')[0]]}; from mutmut.__main__ import cli; cli()"
    command = [sys.executable, "-c", begin, "run", "--max-children", "1"]
    environment = os.environ | dict.fromkeys(threads.VARIABLES, "1")
    with (folder / "log.txt").open("w") as log:
        subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True)
    ends = json.loads((folder / "mutants" / "newsdesk" / f"{module}.meta").read_text())["exit_code_by_key"]
    with contextlib.chdir(folder):
        for mutant, code in ends.items():
            if status_by_exit_code[code] not in CAUGHT:
                diff = get_diff_for_mutant(mutant, path=f"newsdesk/{module}")
                lines = [line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
                print("\n".join([f"  {status_by_exit_code[code]}: {mutant}", *lines]), flush=True)
    return Counter(status_by_exit_code[code] for code in ends.values())


def write(module: str, ends: Counter[str]) -> None:
    """Put what came of a module into its row of the page, or into a new one."""
    lines = PAGE.read_text().splitlines()
    start = f"| `{module}` |"
    place = next((i for i, line in enumerate(lines) if line.startswith(start)), len(lines))
    remark = lines[place].split("|")[-2].strip() if place < len(lines) else ""
    caught = sum(ends[end] for end in CAUGHT)
    lines[place : place + 1] = [f"{start} {ends.total()} | {caught} | {caught / max(ends.total(), 1):.0%} | {remark} |"]
    PAGE.write_text("\n".join([*lines, ""]))


def main(names: list[str]) -> None:
    os.nice(10)
    for module, tests in MODULES.items():
        if not names or Path(module).stem in names or module in names:
            print(module, flush=True)
            ends = run(module, tests)
            write(module, ends)
            print(f"  {dict(ends)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

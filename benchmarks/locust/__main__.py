"""Locust, headless, against a server of its own on free ports: figures, HTML reports, the objective as exit code.

    python -m benchmarks.locust [--profile steady] [--users 200] [--seconds 120] [--texts test.csv.gz]

The generator shares the cores with the server. Ends with code 1 where the objective is not kept.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import pages, servers
from benchmarks.locust.objective import Figures
from benchmarks.locust.profiles import PROFILES
from newsdesk.server.runtime import processor
from newsdesk.server.serving.settings import granted_cores

ROOT = Path(__file__).parents[2]
FILES = {"rest": "REST through the gateway", "triton": "gRPC to Triton"}
HEAD = "# Load tests\n\nPrinted by `make load`, a profile at a time; every answer is checked.\n"
_LAST_SECONDS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=PROFILES, default="steady")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--rate", type=float, default=50, help="requests a second of the open profile")
    parser.add_argument("--files", nargs="+", choices=FILES, default=list(FILES), help="which locustfiles")
    parser.add_argument("--texts", type=Path, help="CSV with title and description or text, or a line an article")
    parser.add_argument("--p99-ms", type=float, default=2000, help="objective: milliseconds")
    parser.add_argument("--most-failures", type=float, default=0, help="objective: share of the requests")
    parser.add_argument("--reports", type=Path, default=Path(".cache/load"), help="folder of the HTML reports")
    parser.add_argument("--write", type=Path, help="put the figures into this page, too, in place of the profile's")
    options = parser.parse_args()
    options.reports.mkdir(parents=True, exist_ok=True)
    with servers.newsdesk(gateway=True) as server:
        hosts = {"rest": f"http://127.0.0.1:{server.gateway_port}", "triton": f"127.0.0.1:{server.grpc_port}"}
        ran = {name: run(name, hosts[name], options) for name in options.files}
    section = _section(options, {name: figures for name, (_, figures) in ran.items()})
    print(section)
    if options.write:
        pages.put(options.write, HEAD, section)
    sys.exit(max(code for code, _ in ran.values()))


def run(name: str, host: str, options: argparse.Namespace) -> tuple[int, Figures]:
    """Run a locustfile in a process of its own: its exit code and figures."""
    report = options.reports / f"{name}-{options.profile}.html"
    figures = report.with_suffix(".json")
    figures.unlink(missing_ok=True)
    command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name(f"{name}.py")), "--headless"]
    command += ["--host", host, "--users", str(options.users), "--run-time", f"{options.seconds}s"]
    command += ["--stop-timeout", str(_LAST_SECONDS), "--only-summary", "--loglevel", "WARNING"]
    command += ["--html", str(report), "--figures", str(figures), "--load-profile", options.profile]
    for option in "rate", "p99_ms", "most_failures", "texts":
        if (value := getattr(options, option)) is not None:
            command += ["--" + option.replace("_", "-"), str(value)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.run(command, env=environment, timeout=options.seconds + 4 * _LAST_SECONDS, check=False)
    if not figures.exists():
        sys.exit(f"{name}: Locust ended with code {process.returncode}, and without figures")
    return process.returncode, Figures(**json.loads(figures.read_text()))


def _section(options: argparse.Namespace, figures: dict[str, Figures]) -> str:
    how = f"{options.rate:g} requests a second" if PROFILES[options.profile].open else f"{options.users} users"
    lines = [
        f"## {options.profile}: {how}, {options.seconds} s",
        "",
        f"{PROFILES[options.profile].about.capitalize()}. {processor.describe()}, {granted_cores()} cores, Python "
        f"{platform.python_version()}, {time.strftime('%Y-%m-%d')}. Objective: p99 ≤ {options.p99_ms:g} ms, "
        f"failures ≤ {options.most_failures:.2%}.",
        "",
        "| locustfile | requests | failures | requests/s | p50 ms | p95 ms | p99 ms | longest ms |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {FILES[name]} | {run.requests} | {run.failures} | {run.per_second:.0f} | {run.p50_ms:.0f} "
        f"| {run.p95_ms:.0f} | {run.p99_ms:.0f} | {run.max_ms:.0f} |"
        for name, run in figures.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

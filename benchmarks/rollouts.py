"""The cost of a canary and of a shadow: single texts through the gateway's doors without and with them.

    python -m benchmarks.rollouts [--texts test.csv.gz] [--seconds 10] [--rounds 3] [--canary 5%]
        [--write benchmarks/results/rollouts.md]

Three servers with the same models, all running, are asked in turn by one generator on the same cores. The version that
is tried is a copy of the current one. It is never withdrawn meanwhile. What a shadow has still to compare when its turn
ends, it computes in the two uncounted seconds of the next one. Ends with code 1 where a request fails.
"""

import argparse
import contextlib
import re
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks import MODEL, pages, paired, servers, texts
from benchmarks.paired import Front
from newsdesk.server.contract import DEFAULT_QUALITY, QUALITIES
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.serving.settings import default_repository

CLIENTS = 1, 32
_NEVER = "errors=100%,latency=1000,disagreement=100%,drift=1000"
HEAD = "# What trying a version costs\n\nPrinted by `python -m benchmarks.rollouts`, see its help.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, help="CSV with title and description or text, or a line an article")
    parser.add_argument("--seconds", type=float, default=10, help="counted seconds of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", nargs="+", type=int, default=CLIENTS, help="numbers of clients")
    parser.add_argument("--quality", choices=QUALITIES, default=DEFAULT_QUALITY)
    parser.add_argument("--canary", default="5%", help="the canary's share of the texts")
    parser.add_argument("--write", type=Path, help="put the figures into this page, too, in place of the last ones")
    options = parser.parse_args()
    articles = texts.choose(options.texts)
    canary, shadow = f"canary of {options.canary}", "shadow"
    with _two_versions() as (repository, number), contextlib.ExitStack() as stack:
        started = {"": stack.enter_context(servers.newsdesk(gateway=True))}
        for name, *flags in (canary, "--canary", f"{number}:{options.canary}"), (shadow, "--shadow", number):
            started[name] = stack.enter_context(_trying(repository, number, *flags))
        sides = {
            f"{door}, {name}".removesuffix(", "): side
            for name, server in started.items()
            for door, side in paired.doors(Front(server), articles, options.quality).items()
        }
        runs = paired.measure(sides, options.clients, options.rounds, options.seconds)
        answered = _sum(started[canary], 'version_requests_total{.*outcome="answered",role="canary"')
        compared = _sum(started[shadow], 'shadow_texts_total{.*outcome="(dis)?agreed"')
        dropped = _sum(started[shadow], 'shadow_texts_total{.*outcome="dropped"')
    lines = [pages.machine(options.quality), "", *runs.compared([canary, shadow]), "", *runs.table(), ""]
    lines.append(
        f"Medians of {options.rounds} rounds of {options.seconds:g} s. In all the canary answered {answered} requests. "
        f"The shadow compared {compared} texts, and had no room for {dropped}."
    )
    if runs.failures:
        lines.append(f"\nNot met: {runs.failures} requests failed.")
    section = "\n".join(["## Single texts", "", *lines, ""])
    print(section)
    if options.write:
        pages.put(options.write, HEAD, section)
    sys.exit(bool(runs.failures))


@contextlib.contextmanager
def _two_versions() -> Iterator[tuple[Path, str]]:
    """Yield a repository whose model has a second version, a copy of the first, and that version's number."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(default_repository() / MODEL, Path(folder) / MODEL)
        version = latest_version(Path(folder) / MODEL)
        number = str(int(version.name) + 1)
        shutil.copytree(version, version.with_name(number))
        yield Path(folder), number


@contextlib.contextmanager
def _trying(repository: Path, number: str, *flags: str) -> Iterator[servers.Server]:
    """Serve with a version that is tried, from when that one answers, too."""
    common = "--model-repository", str(repository), "--rollout-rule", _NEVER
    with servers.newsdesk(*common, *flags, gateway=True) as server:
        while not servers.answers(f"http://127.0.0.1:{server.http_port}/v2/models/{MODEL}@{number}/ready"):
            time.sleep(0.1)
        yield server


def _sum(server: servers.Server, series: str) -> int:
    """Return the sum of the gateway's metrics that begin with a pattern."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.gateway_port}/metrics") as response:
        lines = response.read().decode().splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if re.match(f"newsdesk_gateway_{series}", line)))


if __name__ == "__main__":
    main()

"""Measure the time until a server is whole again after one of its processes was killed, without load.

    python -m benchmarks.healing [--times 3]

The promise is ten seconds on an idle machine of two cores, from a server that has worked for a while: what dies again
at once waits longer before each start.
"""

import argparse
import os
import random
import signal
import statistics
import sys
import time

from benchmarks import chaos, servers
from newsdesk.server.runtime import processor
from newsdesk.server.serving.pauses import STEADY_SECONDS

PROMISE = 10.0
_ACTIONS = "kill a backend process", "kill tritonserver", "stop tritonserver", "kill the gateway"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args().times
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends, too
    with (
        chaos.state_folder(wanted=False) as (state, _),
        servers.newsdesk("--state", str(state), gateway=True) as server,
    ):
        victim = chaos.Victim(server, state, False, random.Random(7))
        print(f"{processor.describe()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"first answer after {server.start_seconds:.1f} s; whole again after, in seconds:")
        for action in _ACTIONS:
            taken = []
            for _ in range(times):
                chaos.until_whole(victim, time.monotonic())
                time.sleep(STEADY_SECONDS + 1)
                began = time.monotonic()
                victim.actions[action]()
                taken.append(chaos.until_whole(victim, began))
            kept = "" if max(taken) <= PROMISE else f"  more than the {PROMISE:.0f} promised"
            print(
                f"{action:24} {' '.join(f'{seconds:5.1f}' for seconds in taken)}  median "
                f"{statistics.median(taken):.1f}{kept}",
                flush=True,
            )


if __name__ == "__main__":
    main()

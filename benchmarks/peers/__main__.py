"""newsdesk against its peers: same checkpoint, articles, generator and cores, in one run and one table.

    python -m benchmarks.peers [--texts test.csv.gz]

The checkpoint is made from the shipped member (`benchmarks.peers.checkpoint`), or is `--checkpoint`'s.

Each peer is installed into an environment of its own where that is missing (`--install` does nothing else), started,
asked for the labels of a few articles (another label than newsdesk's for more than one in ten stops the run), warmed
up, measured at each number of clients in a closed loop over HTTP with JSON, and ended before the next. The generator
shares the cores with the server, so each side pays for it. A peer that does not start is a row that says so.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from hashlib import sha256
from pathlib import Path

from benchmarks import MODEL, one_member, servers, texts
from benchmarks.peers import catalogue, checkpoint, environments
from benchmarks.peers.catalogue import Peer, Setting
from newsdesk.server.runtime import manifest, processor
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.serving import load, prepare
from newsdesk.server.serving.settings import Settings, granted_cores

CLIENTS = (1, 8, 32, 128, 512)
_ASKED = 40
_FITTED = 400
"""Articles that the peers' head is fitted on, where the checkpoint is made from the member."""
_WARM_SECONDS = 5
_AGREEMENT = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a from_pretrained folder; made from the member without it")
    parser.add_argument("--texts", type=Path, help="CSV with title and description; made-up articles without it")
    parser.add_argument("--member", default="minilm", help="the shipped model's member that the checkpoint became")
    parser.add_argument("--environments", type=Path, default=Path(".cache/peers"), help="where the peers are installed")
    parser.add_argument("--peers", nargs="+", help="only those whose name holds one of these words")
    parser.add_argument("--clients", nargs="+", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=8, help="counted seconds at each number of clients")
    parser.add_argument("--write", type=Path, help="write the table there as a page, too")
    parser.add_argument("--install", action="store_true", help="make the environments, measure nothing")
    options = parser.parse_args()
    articles = texts.choose(options.texts)
    shipped = Settings().model_repository
    repository = tempfile.TemporaryDirectory()
    member = one_member.write(shipped, options.member, Path(repository.name))
    folder = options.checkpoint or checkpoint.write(
        latest_version(member / MODEL), articles[:_FITTED], options.environments
    )
    onnx = _exported(folder.absolute(), options.environments)
    setting = Setting(folder.absolute(), onnx, options.environments, granted_cores())
    several = len(manifest.load(latest_version(shipped / MODEL)).members) > 1
    peers = [
        peer
        for peer in catalogue.all_peers(setting, member, several)
        if not options.peers or any(word.lower() in peer.name.lower() for word in options.peers)
    ]
    for name in sorted({peer.environment for peer in peers} - {""}):
        environments.python(name, options.environments)
    if options.install:
        return
    for served in (member, shipped):  # once a machine, as a peer's model is exported once: no part of a start
        prepare.prepare(served.absolute() / MODEL, Settings().state, lambda note: print(note, file=sys.stderr))
    began, readings, expected = time.monotonic(), {}, None
    for peer in peers:
        print(f"measuring {peer.name}", file=sys.stderr, flush=True)
        try:
            readings[peer.name], named = _measure(peer, articles, options.clients, options.seconds)
        except (RuntimeError, OSError) as error:
            print(error, file=sys.stderr)
            readings[peer.name] = {"problem": str(error).splitlines()[0]}
            continue
        expected = expected or named
        agreement = sum(map(str.__eq__, named, expected)) / len(expected)
        readings[peer.name]["agreement"] = agreement
        if agreement < _AGREEMENT:
            sys.exit(f"{peer.name} names the label of {peers[0].name} for {agreement:.0%} of {len(expected)} articles")
    page = _page(peers, readings, len(articles), setting.cores, time.monotonic() - began)
    print(page)
    if options.write:
        options.write.write_text(f"# newsdesk against its peers\n\nPrinted by `{_command()}`.\n\n{page}")
        options.write.with_suffix(".json").write_text(json.dumps(readings, indent=1))


def _exported(fitted: Path, cache: Path) -> Path:
    """Return the folder with a checkpoint's ONNX files, exported by optimum if missing."""
    digest = sha256((fitted / "model.safetensors").read_bytes()).hexdigest()[:16]
    folder = cache.absolute() / "onnx" / digest
    if not (folder / "whole").exists():
        command = [sys.executable, str(Path(__file__).with_name("export_onnx.py"))]
        subprocess.run([*command, str(fitted), str(folder)], check=True, stdout=sys.stderr)
        (folder / "whole").touch()
    return folder


def _measure(peer: Peer, articles: list[str], clients: list[int], seconds: float) -> tuple[dict, list[str]]:
    """Return what was measured, and the labels named for the first articles."""
    with peer.start() as server:
        named = [_ask(peer, server, text) for text in articles[:_ASKED]]
        bodies = [peer.request(text) for text in articles]
        requests = load.encode("127.0.0.1", server.http_port, peer.path, bodies)
        load.run("127.0.0.1", server.http_port, requests, clients=8, seconds=_WARM_SECONDS)  # every worker warm
        runs = [load.run("127.0.0.1", server.http_port, requests, count, seconds) for count in clients]
        measured = {"runs": [vars(run) for run in runs], "resident_mb": server.resident_mb()}
        return measured | {"start_seconds": server.start_seconds}, named


def _ask(peer: Peer, server: servers.Server, text: str) -> str:
    url = f"http://127.0.0.1:{server.http_port}{peer.path}"
    asked = urllib.request.Request(url, peer.request(text), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=30) as response:
        return peer.label(json.load(response))


def _page(peers: list[Peer], readings: dict[str, dict], articles: int, cores: int, seconds: float) -> str:
    counts = next([run["clients"] for run in reading["runs"]] for reading in readings.values() if "runs" in reading)
    lines = [
        f"{articles} articles, {processor.describe()}, {cores} cores, Python {platform.python_version()}, "
        f"{time.strftime('%Y-%m-%d')}, {seconds / 60:.0f} minutes.",
        "",
        "| server | articles/s | " + " | ".join(f"p50 / p99 ms at {count}" for count in counts)
        + " | failures | memory MB | start s |",
        "|---|---:|" + "---:|" * (len(counts) + 3),
    ]  # fmt: skip
    best = {}
    for name, reading in readings.items():
        if "problem" in reading:
            lines.append(f"| {name} | {reading['problem']} |" + " |" * (len(counts) + 3))
            continue
        best[name] = max(run["per_second"] for run in reading["runs"])
        latencies = " | ".join(f"{run['p50_ms']:.1f} / {run['p99_ms']:.1f}" for run in reading["runs"])
        failures = sum(run["failures"] for run in reading["runs"])
        lines.append(
            f"| {name} | {best[name]:.0f} | {latencies} | {failures} | {reading['resident_mb']:.0f} "
            f"| {reading['start_seconds']:.1f} |"
        )
    lines += ["", "Articles/s is the best over the numbers of clients; memory is that of all its processes after the"]
    lines += [
        "load, shared pages counted once; start is that of the second time: models are exported, and newsdesk has"
    ]
    lines += ["measured the machine. Set-ups and versions:", ""]
    lines += [
        f"- {peer.name}: {peer.setup}" + (f" ({environments.versions(peer.environment)})" if peer.environment else "")
        for peer in peers
    ]
    lines += [
        "",
        "Triton's tutorial has its ONNX member in the Python backend around ONNX Runtime: the Triton that pip installs",
        "brings no ONNX Runtime backend.",
    ]
    best.pop("newsdesk, all members", None)
    ours = best.pop("newsdesk", None)
    if ours and best:
        lines += ["", "newsdesk answers, at saturation, the articles of"]
        lines += [f"- {name}: {ours / theirs:.1f} times over" for name, theirs in best.items()]
    return "\n".join(lines) + "\n"


def _command() -> str:
    return " ".join(["python -m benchmarks.peers", *sys.argv[1:]])


if __name__ == "__main__":
    main()

"""On the device: TensorRT engines of every encoder, built, compared with the golden answers and timed.

The fastest that agrees serves from then on; without one, what served before goes on.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from newsdesk.build.compile import engine, profiles
from newsdesk.build.errors import BuildError
from newsdesk.build.recipe import Engines
from newsdesk.server.runtime import golden, gpu, manifest, targets
from newsdesk.server.runtime.errors import ServerError
from newsdesk.server.runtime.manifest import File, Member
from newsdesk.server.runtime.plans import Plan
from newsdesk.server.runtime.repository import find_version

PRECISIONS = "int8-fp16", "fp16"
BATCHES = (1, 8, 32)
BUCKETS = 4
Say = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """The means to build engines: the runtime, megabytes to work in, the golden answers, and who is told."""

    runtime: str
    workspace_mib: int
    golden: golden.Golden
    say: Say


def build(version: Path, bench: Bench) -> bool:
    """Build, compare and time; write the manifest where something serves that did not. Return whether all encoders do.

    Raises:
        ManifestError: the folder does not match its manifest.
    """
    loaded = manifest.load(version)
    chosen = targets.choose("", loaded)
    members, complete = [], True
    for member in loaded.members:
        best = None
        if member.kind == "encoder":
            member, best = _best(member, version, bench)
            complete &= best is not None
        members.append(member)
        chosen[member.name] = best or chosen[member.name]
    if members != loaded.members:
        manifest.save(msgspec.structs.replace(loaded, members=members, target=targets.write(chosen)), version)
    return complete


def _best(member: Member, version: Path, bench: Bench) -> tuple[Member, str | None]:
    """Return the member with the engines that pass, and the target of the fastest of them."""
    speeds: dict[str, float] = {}
    for precision in PRECISIONS:
        if precision not in member.graphs:
            continue
        target = f"{bench.runtime}:{precision}"
        bench.say(f"{member.name} {target}: building, some minutes")
        try:
            tried = _built(member, precision, version, bench)
            finding = bench.golden.of(tried, version, target, against=precision)
        except (BuildError, ServerError, RuntimeError) as error:
            bench.say(f"{member.name} {target}: {error}")
            continue
        speed = f"{finding.per_second:.0f} texts/s, largest difference {finding.largest:.4f}"
        bench.say(f"{member.name} {target}: {speed}{'' if finding.passed else ', NOT PASSED'}")
        if finding.passed:
            member, speeds[target] = tried, finding.per_second
    return member, max(speeds, key=lambda target: speeds[target], default=None)


def _built(member: Member, precision: str, version: Path, bench: Bench) -> Member:
    """Build one engine and return the member with it. Raises BuildError."""
    settings = Engines(workspace_mib=bench.workspace_mib, batches=BATCHES, compute_capabilities=())
    lengths = profiles.ends(bench.golden.lengths(member), member.max_length, BUCKETS)
    path = version / member.name / f"model.{precision}.{bench.runtime}.plan"
    places = profiles.place(bench.runtime, lengths, list(BATCHES))
    made = engine.build(version / member.graphs[precision].path, path, bench.runtime, places, settings)
    here, key = gpu.find(), f"{bench.runtime}:{precision}"
    plan = Plan(
        runtime=bench.runtime,  # type: ignore[arg-type]
        version=made.version,
        compute_capabilities=[here.compute_capability] if here else [],
        gpu=here.name if here else "",
        cuda=here.cuda if here else "",
        batches=list(BATCHES),
        lengths=lengths,
        products=made.products,
    )
    file = File(path.relative_to(version).as_posix(), manifest.digest(path))
    return msgspec.structs.replace(member, graphs={**member.graphs, key: file}, plans={**member.plans, key: plan})


def main(arguments: list[str] | None = None) -> int:
    """Build the engines, and return the exit code.

    It is 0, 1 where an encoder has no engine that passes, 2 where nothing could be run.
    """
    parser = argparse.ArgumentParser(prog="./jetson build", description=__doc__)
    parser.add_argument("--model-repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--golden", type=Path, default=Path("golden"))
    parser.add_argument("--workspace", type=int, default=1024, metavar="MIB", help="memory that the builder may take")
    parser.add_argument("--runtime", choices=["tensorrt", "tensorrt_rtx"], default="tensorrt")
    options = parser.parse_args(arguments)
    try:
        known = golden.Golden.load(options.golden)
        bench = Bench(options.runtime, options.workspace, known, lambda line: print(line, flush=True))
        return 0 if build(find_version(options.model_repository), bench) else 1
    except ServerError as error:
        print(f"newsdesk: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

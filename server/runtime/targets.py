"""The compile target that each member is served with, as one line.

It is "openvino:int8" for every member that has it, or "minilm=openvino:int8,student=onnxruntime:fp32".
"""

from newsdesk.server.runtime import plans
from newsdesk.server.runtime.engines import TARGETS
from newsdesk.server.runtime.errors import EngineError
from newsdesk.server.runtime.manifest import Manifest, Member

EVERY = ""
"""Stands for the members that are not named."""


def parse(line: str) -> dict[str, str]:
    """Return member → target, EVERY for a target without a member.

    Raises:
        EngineError: a part of the line is no target, or names a member twice.
    """
    by_member: dict[str, str] = {}
    for part in filter(None, map(str.strip, line.split(","))):
        name, named, target = part.rpartition("=")
        if target not in TARGETS or (named and not name) or name in by_member:
            raise EngineError(
                f"target {part!r} in {line!r}: expected one of {', '.join(TARGETS)}, for every member, or "
                "member=target for each, with commas between"
            )
        by_member[name] = target
    return by_member


def write(of_members: dict[str, str]) -> str:
    """Return the line of member → target: a single target where all have the same."""
    if len(set(of_members.values())) == 1:
        return next(iter(of_members.values()))
    return ",".join(f"{name}={target}" for name, target in of_members.items())


def choose(line: str, manifest: Manifest) -> dict[str, str]:
    """Return each member's target: the line's, and where it has none that the member's graphs allow, the manifest's.

    A line measured for one version of a model may serve the next: names of other members are passed over.

    Raises:
        EngineError: a member is given a target that it has no graph for, or none has one for the target of all.
    """
    wanted, built = parse(line), parse(manifest.target)
    every = wanted.get(EVERY, "")
    if every and not any(runs(every, member) for member in manifest.members):
        raise _without(every, *manifest.members)
    chosen = {}
    for member in manifest.members:
        target = wanted.get(member.name) or built.get(member.name) or built.get(EVERY, "")
        if member.name not in wanted and every and runs(every, member):
            target = every
        if not target or not runs(target, member):
            raise _without(target, member)
        chosen[member.name] = target
    return chosen


def check(line: str, manifest: Manifest) -> None:
    """Check a line against a model and this machine.

    Raises:
        EngineError: `choose` refuses it, it names who is no member, or a chosen engine was built for another machine.
    """
    members = [member.name for member in manifest.members]
    if strangers := sorted(parse(line).keys() - {EVERY, *members}):
        raise EngineError(f"target {line!r} names {', '.join(strangers)}, but the members are {', '.join(members)}")
    chosen = choose(line, manifest)
    for member in manifest.members:
        target = chosen[member.name]
        if plan := member.plans.get(TARGETS[target]):
            plans.check(f"member {member.name}, {target}", plan, rebuild(manifest))


def rebuild(manifest: Manifest) -> str:
    """Return the command that builds the model again."""
    command = next((entry["command"] for entry in manifest.built if entry.get("command")), "")
    return command or "newsdesk build --recipe compact"


def runs(target: str, member: Member) -> bool:
    """Whether the member has the variant of its graph that the target reads."""
    return TARGETS[target] in member.graphs


def _without(target: str, *members: Member) -> EngineError:
    variant = TARGETS.get(target, "such")
    has = "; ".join(
        f"member {member.name} has no {variant} graph, only {', '.join(member.graphs)}" for member in members
    )
    return EngineError(f"target {target!r}: {has}. Choose another target, or build this one (newsdesk build).")

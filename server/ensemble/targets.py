"""Which compile target each member is served with, as one line: "openvino:int8" for every member that has it, or
"minilm=openvino:int8,student=onnxruntime:fp32"."""

from collections.abc import Iterable

from newsdesk.server.ensemble.engines import TARGETS
from newsdesk.server.ensemble.errors import EngineError
from newsdesk.server.ensemble.manifest import Manifest, Member

EVERY = ""
"""Stands for the members that are not named."""


def parse(line: str) -> dict[str, str]:
    """Return member → target, EVERY for a target without a member. Raises EngineError with what was expected."""
    found: dict[str, str] = {}
    for part in filter(None, map(str.strip, line.split(","))):
        name, named, target = part.rpartition("=")
        if target not in TARGETS or (named and not name) or name in found:
            raise EngineError(
                f"target {part!r} in {line!r}: expected one of {', '.join(TARGETS)}, for every member or as "
                "member=target for each, with commas between"
            )
        found[name] = target
    return found


def write(of_members: dict[str, str]) -> str:
    """Return the line of member → target: a single target where all have the same."""
    if len(set(of_members.values())) == 1:
        return next(iter(of_members.values()))
    return ",".join(f"{name}={target}" for name, target in of_members.items())


def choose(line: str, manifest: Manifest) -> dict[str, str]:
    """Return each member's target: the line's, else, where it has none for the member, the manifest's.

    Raises EngineError where a target is unknown, a named member has no graph for its target, or no member has one for
    the target of all.
    """
    given, built = parse(line), parse(manifest.target)
    if unknown := given.keys() - {EVERY} - {member.name for member in manifest.members}:
        raise EngineError(f"target {line!r} names {', '.join(sorted(unknown))}, but the members are {_names(manifest)}")
    if EVERY in given and not any(runs(given[EVERY], member) for member in manifest.members):
        raise _without(given[EVERY], manifest.members)
    found = {}
    for member in manifest.members:
        target = given.get(member.name, "")
        every = given.get(EVERY, "")
        if not target:
            own = built.get(member.name) or built.get(EVERY, "")
            target = every if every and runs(every, member) else own
        if not target or not runs(target, member):
            raise _without(target, [member])
        found[member.name] = target
    return found


def runs(target: str, member: Member) -> bool:
    """Whether the member has the variant of its graph that the target reads."""
    return TARGETS[target] in member.graphs


def _without(target: str, members: Iterable[Member]) -> EngineError:
    has = "; ".join(
        f"member {one.name} has no {TARGETS.get(target, 'such')} graph, only {', '.join(one.graphs)}" for one in members
    )
    return EngineError(f"target {target!r}: {has}. Choose another target, or build this one (newsdesk build).")


def _names(manifest: Manifest) -> str:
    return ", ".join(member.name for member in manifest.members)

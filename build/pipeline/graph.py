"""The graph of a build's stages: each declared with its inputs, run after them, and only if something changed."""

import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Protocol

import msgspec

from newsdesk.build.errors import RecipeError
from newsdesk.build.pipeline.artifacts import Artifact, ArtifactStore
from newsdesk.build.pipeline.digests import Code, of_file

Ids = str | Mapping[str, str]
"""The id of the stage whose artifact a parameter gets, or such ids by name."""
Inputs = Mapping[str, Ids]
"""By the parameters of a stage's function."""
Passed = dict[str, "Artifact | dict[str, Artifact]"]
Made = Mapping[str, Artifact]
"""Artifacts by the ids of their stages."""


@dataclass(frozen=True)
class BuildStage:
    """A stage: a function of artifacts and settings, whose result is an artifact.

    The function is called as `function(folder, say, **artifacts, **settings)`. It writes the artifact's files to the
    folder and returns its metrics. All that it gets is in the key.
    """

    name: str
    function: str
    """Its full name, "package.module:function": the module is imported when the stage runs."""
    of: str = ""
    """The member that it is of, or what else tells stages of one name apart."""
    inputs: Inputs = field(default_factory=dict)
    on_demand: Inputs = field(default_factory=dict)
    """Inputs that are made only when the stage itself runs, and may be deleted afterwards: fits that are asked once. In
    the key their own keys stand for them, so that those are known without them."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    unkeyed: Mapping[str, Any] = field(default_factory=dict)
    """Settings that change messages alone, and are not in the key."""
    files: tuple[str, ...] = ()
    """Files that the function reads beside its inputs, by path."""
    environment: tuple[str, ...] = ()
    """Facts of this machine that decide the result; in the key, and not passed."""
    code: tuple[str, ...] = ()
    """More modules, beside the function's, whose code decides the result: those that its settings name."""
    keyed: tuple[str, ...] | None = None
    """Modules whose closures are in the key. None: all `roots`. A fit has fewer, since hours of training are not thrown
    away for an edit of the trainer. All are recorded."""

    @property
    def id(self) -> str:
        """Its name, and what it is of."""
        return f"{self.name} {self.of}".strip()

    @property
    def roots(self) -> tuple[str, ...]:
        """The modules whose closures are the stage's code."""
        return self.function.partition(":")[0], *self.code


class StageWatch(Protocol):
    """A listener that is told which stage runs."""

    def begin(self, stage: BuildStage) -> None:
        """Note that a stage is looked for."""

    def end(self, stage: BuildStage, artifact: Artifact) -> None:
        """Note that a stage's artifact is there."""


class Graph:
    """Stages by id, with the edges between them.

    Raises:
        RecipeError: stages wait for each other.
    """

    def __init__(self, stages: Iterable[BuildStage]) -> None:
        self.stages = {stage.id: stage for stage in stages}
        try:
            TopologicalSorter({id: _needed(stage) for id, stage in self.stages.items()}).prepare()
        except CycleError as error:
            waiting = ", ".join(dict.fromkeys(self.stages[id].of for id in error.args[1]))
            message = f"members {waiting} wait for each other as teachers; let one learn from the labels alone"
            raise RecipeError(message) from error

    def order(self, wanted: Iterable[str]) -> list[BuildStage]:
        """Return the wanted stages and all that they need, each behind its inputs.

        Stages that are needed on demand alone are left out; their own inputs are not.
        """
        wanted = [*wanted]
        reached: set[str] = set()
        waiting = [*wanted]
        while waiting:
            id = waiting.pop()
            if id not in reached:
                reached.add(id)
                waiting += _needed(self.stages[id])
        firm = {*wanted, *(id for needing in reached for id in _ids(self.stages[needing].inputs))}
        edges = {id: _needed(stage) for id, stage in self.stages.items() if id in reached}
        return [self.stages[id] for id in TopologicalSorter(edges).static_order() if id in firm]

    def run(
        self, wanted: Iterable[str], store: ArtifactStore, known: Made | None = None, watch: StageWatch | None = None
    ) -> dict[str, Artifact]:
        """Return the artifacts of the wanted stages and of all that they need, made where they are not there.

        Args:
            wanted: ids of stages
            store: the artifact store
            known: artifacts from a run of a graph with the same stages before, which are not looked for again
            watch: is told of each stage that is looked for

        Raises:
            BuildError: a file of an artifact is not what was built.
        """
        made = dict(known or {})
        code = Code()
        for stage in self.order(wanted):
            if stage.id not in made:
                if watch:
                    watch.begin(stage)
                made[stage.id] = self._make(stage, made, store, code)
                if watch:
                    watch.end(stage, made[stage.id])
        return made

    def _make(self, stage: BuildStage, made: Made, store: ArtifactStore, code: Code) -> Artifact:
        """Return one stage's artifact; `made` holds its inputs."""

        def work(folder: Path) -> Any:
            fits = {id: self._make(self.stages[id], made, store, code) for id in _ids(stage.on_demand)}
            artifacts = _passed(stage.inputs, made) | _passed(stage.on_demand, fits)
            function = pkgutil.resolve_name(stage.function)
            return function(folder, store.say, **artifacts, **stage.settings, **stage.unkeyed)

        record = {"code": {root: code.digest(root) for root in stage.roots}}
        return store.make(stage.name, self._known(stage, made, store, code), work, name=stage.of, record=record)

    def _known(self, stage: BuildStage, made: Made, store: ArtifactStore, code: Code) -> dict[str, Any]:
        """Return all that decides the stage's artifact, as JSON."""
        inputs = {role: made[id].content for role, id in _roles(stage.inputs)}
        for role, id in _roles(stage.on_demand):
            asked = self.stages[id]
            inputs[role] = store.key(asked.name, self._known(asked, made, store, code))
        return {
            "settings": msgspec.to_builtins(dict(stage.settings)),
            "inputs": inputs,
            "files": {path: of_file(Path(path)) for path in stage.files},
            "code": {root: code.digest(root) for root in (stage.roots if stage.keyed is None else stage.keyed)},
            **({"environment": list(stage.environment)} if stage.environment else {}),
        }


def _needed(stage: BuildStage) -> list[str]:
    return [*_ids(stage.inputs), *_ids(stage.on_demand)]


def _ids(inputs: Inputs) -> list[str]:
    return [id for _, id in _roles(inputs)]


def _roles(inputs: Inputs) -> Iterator[tuple[str, str]]:
    """Yield each input's role, the parameter and the name among several, and its stage's id."""
    for parameter, ids in inputs.items():
        if isinstance(ids, str):
            yield parameter, ids
        else:
            yield from ((f"{parameter} {name}", id) for name, id in ids.items())


def _passed(inputs: Inputs, made: Made) -> Passed:
    return {
        parameter: made[ids] if isinstance(ids, str) else {name: made[id] for name, id in ids.items()}
        for parameter, ids in inputs.items()
    }

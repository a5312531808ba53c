"""Choose the compile target that serves each member: the fastest of those that answer alike on this very machine.

Each target is measured once, in a process of its own: one that crashes, hangs or eats memory is only out of the race.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import cycle
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from newsdesk.server.machine import processes
from newsdesk.server.runtime import engines, manifest, processor, targets
from newsdesk.server.runtime.errors import EngineError, ServerError
from newsdesk.server.runtime.manifest import Manifest, Member
from newsdesk.server.runtime.repository import latest_version

TEXTS = 64
_MEAN_WORDS, _SPREAD, _WORDS = 36, 0.38, (14, 84)
_BATCH = 16
_WARM_UP_PASSES = 2
_SECONDS = 2.0
_TIMEOUT = 300
_AGREEMENT = 0.8
_PACKAGES = (
    "newsdesk", "numpy", "onnxruntime", "openvino", "tokenizers",
    "cuda-bindings", "onnxruntime-gpu", "tensorrt", "tensorrt-cu13-bindings", "tensorrt-rtx-cu13",
)  # fmt: skip
_SENTENCES = (
    "The central bank left interest rates unchanged and warned that inflation may stay high through the winter.",
    "Shares of the airline fell nine percent after it cut its profit forecast for the quarter.",
    "Crude oil prices climbed above a record as traders worried about supply from the gulf.",
    "The striker scored twice in the final minutes to send the club into the semifinals of the cup.",
    "The pitcher struck out eleven batters and the visitors won the series in seven games.",
    "A teenager from a small town won the opening round of the tennis championship in straight sets.",
    "Rebels and government troops exchanged fire near the border a day after the truce was signed.",
    "The prime minister resigned on Tuesday, and parliament will vote on a successor next week.",
    "At least twenty people were hurt when an earthquake shook the northern province before dawn.",
    "Astronomers found a planet of ice and rock in orbit around a faint star nearby.",
    "The company released a patch for a flaw in its browser that let attackers read passwords.",
    "Engineers showed a chip that doubles the memory of a phone and uses half the power.",
)


class PreparationError(ServerError):
    """No target of a member can serve on this machine."""


class Measured(Struct, frozen=True):
    """A member's target: articles per second of one process with one thread, or why it is out of the race."""

    member: str
    target: str
    articles_per_second: float = 0.0
    refused: str = ""


class Preparation(Struct, frozen=True):
    """The record of a measurement, kept in the state folder."""

    targets: dict[str, str]
    """Member → the target that serves it."""
    measured: list[Measured]
    machine: str
    packages: dict[str, str]
    manifest_sha256: str

    @property
    def target(self) -> str:
        """The targets that serve, as the line that `targets` reads."""
        return targets.write(self.targets)


def prepare(
    model: Path,
    state: Path,
    say: Callable[[str], None],
    again: bool = False,
    texts: Sequence[str] = (),
    version: Path | None = None,
) -> Preparation:
    """Return the targets to serve a version of a model with, as recorded, or measured now and recorded.

    Args:
        model: the model's folder
        state: the folder of records
        say: is told that it takes time
        again: whether to measure in spite of a record
        texts: what is classified; without any, made-up ones as long as news
        version: a version folder; None means the latest

    Raises:
        ManifestError: the folder does not match its manifest.
        RepositoryError: there is no version.
        PreparationError: no target is left for a member.
    """
    folder = version or latest_version(model)
    loaded = manifest.load(folder)
    digest, machine, packages = manifest.digest(folder / manifest.FILE), processor.kernels(), _packages()
    record = state / "prepared" / f"{key(folder)}.json"
    if not again and (kept := _kept(record, loaded)):
        return kept
    runs = {member.name: available(member) for member in loaded.members}
    say(f"measuring {sum(map(len, runs.values()))} targets on this machine, a few seconds each; done once")
    measured, chosen = [], {}
    for name, of_member in runs.items():
        raced = _race(folder, name, of_member, texts or articles())
        passed = [entrant for entrant in raced if not entrant.refused]
        if not passed:
            reasons = "; ".join(f"{entrant.target}: {entrant.refused}" for entrant in raced)
            raise PreparationError(
                f"{folder}: no target of member {name} can serve here ({reasons or 'it has no graph for any'}). "
                "Rebuild it on such a machine (newsdesk build --recipe compact)."
            )
        measured += raced
        chosen[name] = max(passed, key=lambda entrant: entrant.articles_per_second).target
    prepared = Preparation(chosen, measured, machine, packages, digest)
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        partial = record.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(prepared), indent=1))
        partial.replace(record)
    except OSError as error:
        say(f"{record}: not written ({error.strerror}), so that the next start measures again")
    return prepared


def _kept(record: Path, loaded: Manifest) -> Preparation | None:
    """Return what was measured before, or None where that cannot be read or names what is not there."""
    try:
        kept = msgspec.json.decode(record.read_bytes(), type=Preparation)
    except (OSError, msgspec.DecodeError):
        return None
    whole = kept.targets.keys() == {member.name for member in loaded.members}
    return kept if whole and can_serve(kept.target, loaded) else None


def can_serve(line: str, loaded: Manifest) -> bool:
    """Return whether the model and this machine have every target that a line names, for every member it names."""
    try:
        targets.check(line, loaded)
    except EngineError:
        return False
    return set(targets.choose(line, loaded).values()) <= set(engines.here())


def key(folder: Path) -> str:
    """Return what findings about a version folder hold for: its manifest, this processor and the packages installed."""
    known = [manifest.digest(folder / manifest.FILE), processor.kernels(), _packages()]
    return sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def available(member: Member) -> list[str]:
    """Return the targets of this machine whose variant of the graph the member has."""
    return [target for target in engines.here() if targets.runs(target, member)]


def articles() -> list[str]:
    """Return 64 different texts, always the same ones.

    They have a news feed's lengths: mean about 48 tokens, lognormal, 20 to 110.
    """
    random = np.random.default_rng(7)
    mean = np.log(_MEAN_WORDS) - _SPREAD**2 / 2
    lengths = np.clip(random.lognormal(mean, _SPREAD, TEXTS).round().astype(int), *_WORDS)
    texts = []
    for i, length in enumerate(lengths):
        topic, start = i % 4 * 3, i // 12  # there are twelve beginnings: every further dozen starts a word later
        words = " ".join(_SENTENCES[topic + (i + j) % 3] for j in range(7)).split()
        texts.append(" ".join(words[start : start + length]))
    return texts


def measure(folder: Path, name: str, target: str, texts: Sequence[str]) -> tuple[float, np.ndarray]:
    """Measure a member with one thread, after warm-up.

    Args:
        folder: the version folder
        name: the member's
        target: what its engine is loaded for
        texts: clean, n of them

    Returns:
        Articles per second, and the probabilities, FP [n, labels].
    """
    from newsdesk.server.runtime.member import LoadedMember  # its engines' packages take a while to import

    loaded = manifest.load(folder)
    (about,) = (member for member in loaded.members if member.name == name)
    member = LoadedMember(about, loaded.windows, folder, target, 1)
    batches = [list(texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)]
    for _ in range(_WARM_UP_PASSES):
        answers = np.concatenate([member(batch).probabilities for batch in batches])
    answered, runs, began = 0, cycle(batches), time.perf_counter()
    while (passed := time.perf_counter() - began) < _SECONDS:
        batch = next(runs)
        member(batch)
        answered += len(batch)
    return answered / passed, answers


def _race(folder: Path, name: str, of_member: list[str], texts: Sequence[str]) -> list[Measured]:
    """Measure a member's targets, one after the other, and refuse those that do not answer like the others."""
    measured, probabilities = [], {}
    for target in of_member:
        speed, answers, refused = _measure_apart(folder, name, target, texts)
        measured.append(Measured(name, target, speed, refused))
        if answers is not None:
            probabilities[target] = answers
    return _judge(measured, probabilities)


def _measure_apart(folder: Path, name: str, target: str, texts: Sequence[str]) -> tuple[float, np.ndarray | None, str]:
    """Measure in a process of its own. Returns the speed, the answers, and why it is refused, or ""."""
    command = [sys.executable, "-P", "-m", __name__, str(folder.absolute()), name, target]
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        ran = subprocess.run(
            command,
            env={**processes.environment_apart(), **single, "TOKENIZERS_PARALLELISM": "false"},
            input=json.dumps(list(texts)),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
            preexec_fn=processes.die_with_parent(),
        )
    except subprocess.TimeoutExpired:
        return 0.0, None, f"no result within {_TIMEOUT} s"
    if ran.returncode != 0:
        lines = ran.stderr.strip().splitlines()
        return 0.0, None, lines[-1] if lines else f"ended with code {ran.returncode}"
    result = json.loads(ran.stdout.splitlines()[-1])
    answers = np.array(result["probabilities"], np.float32)
    return result["articles_per_second"], answers, "" if np.isfinite(answers).all() else "gives NaN or Inf"


def _judge(measured: list[Measured], probabilities: dict[str, np.ndarray]) -> list[Measured]:
    """Refuse the targets whose answers are not finite or that name other labels than the targets together do."""
    finite = {entrant.target: probabilities[entrant.target] for entrant in measured if not entrant.refused}
    if len(finite) < 2:
        return measured
    together = np.median(list(finite.values()), axis=0).argmax(-1)
    judged = []
    for entrant in measured:
        agreement = (finite[entrant.target].argmax(-1) == together).mean() if entrant.target in finite else 1.0
        refused = entrant.refused
        if agreement < _AGREEMENT:
            refused = f"names the label of the others for {agreement:.0%} of the texts, expected {_AGREEMENT:.0%}"
        judged.append(Measured(entrant.member, entrant.target, entrant.articles_per_second, refused))
    return judged


def _packages() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


if __name__ == "__main__":
    rate, probabilities = measure(Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.load(sys.stdin))
    print(json.dumps({"articles_per_second": rate, "probabilities": probabilities.tolist()}))

"""Workers that are tasks of a Ray cluster: one that a dead node held is done again elsewhere.

The parts are written by who started the job alone, so that a task that ran twice counts once. A node needs newsdesk, as
the driver has it, and no model: that is sent.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from newsdesk.server.runtime import manifest
from newsdesk.server.scoring.answers import ScoredTexts, Scorer, ScoringModel
from newsdesk.server.scoring.errors import ScoreError
from newsdesk.server.scoring.work import AHEAD, Key, Texts, ask

ADDRESS = "RAY_ADDRESS"
"""Ray's own variable: the cluster; without, the one that runs here, else one that is started for the job."""
_held: dict[str, Scorer] = {}
"""This process's own, by the digests of their manifests and how they answer."""


class Cluster:
    """As many tasks at once as the cluster has cores, or `count` of them.

    Raises:
        ScoreError: ray is not installed, or no cluster answers.
    """

    def __init__(self, model: ScoringModel, count: int = 0) -> None:
        try:
            import ray
        except ImportError as error:
            raise ScoreError("--on ray needs ray, which is not installed: pip install 'newsdesk[ray]'") from error
        if not ray.is_initialized():
            try:
                ray.init(log_to_driver=False, include_dashboard=False if ADDRESS not in os.environ else None)
            except (ConnectionError, RuntimeError) as error:
                raise ScoreError(f"no Ray cluster answers: {error}. {ADDRESS} names one, as 127.0.0.1:6379.") from error
        self._ray, self._model = ray, model
        self.count = count or max(1, int(ray.cluster_resources().get("CPU", 1)) // model.threads)
        files = {
            file.relative_to(model.folder).as_posix(): file.read_bytes()
            for file in model.folder.rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        }
        self._files = ray.put(files)
        # A task, unlike an actor, finds room on whatever nodes are left.
        self._task = ray.remote(num_cpus=model.threads, max_retries=-1)(_answer)

    def answers(self, questions: Iterator[tuple[Key, Texts]]) -> Iterator[tuple[Key, ScoredTexts]]:
        """Yield the answers to the texts of each key, as they are there.

        Raises:
            ScoreError: the cluster does not go on.
        """
        digest = manifest.digest(self._model.folder / manifest.FILE)

        def submit(texts: Texts) -> Any:
            # Within a list a reference stays one: a process fetches the files once, and not with each task.
            return self._task.remote(self._model, digest, [self._files], list(texts))

        try:
            yield from ask(questions, AHEAD * self.count, submit, self._first, self._ray.get)
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise ScoreError(
                f"the Ray cluster does not go on: {reason[0]}. What is done is kept: run the same command again."
            ) from error

    def _first(self, waiting: list[Any]) -> Any:
        done, _ = self._ray.wait(waiting, num_returns=1)
        return done[0]


def _answer(model: ScoringModel, digest: str, files: list[Any], texts: Texts) -> ScoredTexts:
    """Answer texts on a node."""
    key = f"{digest} {model}"
    if key not in _held:
        _held.clear()
        _held[key] = _load(model, digest, files[0])
    return _held[key].answer(texts)


def _load(model: ScoringModel, digest: str, files: Any) -> Scorer:
    with tempfile.TemporaryDirectory() as made:
        folder = model.folder
        if not (folder / manifest.FILE).is_file() or manifest.digest(folder / manifest.FILE) != digest:
            import ray

            folder = Path(made) / model.folder.name
            for name, content in ray.get(files).items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
        scorer = Scorer(replace(model, folder=folder))
        scorer.load()
        return scorer

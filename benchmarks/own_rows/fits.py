"""newsdesk's answers from its fits, before graphs are made of them: for accuracy alone, in seconds instead of minutes.

The stages choose, fit and combine members as in a build. Instead of exporting the encoder and asking the served graph,
its linear layer is fitted and asked on states: read once of the encoder as it was pretrained, or of the tuned one. The
export refuses a graph that answers otherwise.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.own_rows.states import MOST_TOKENS, POOLING, States
from newsdesk.build.data import tables
from newsdesk.build.ensemble import ensemble as fitting
from newsdesk.build.evaluation.metrics import softmax
from newsdesk.build.members import linear
from newsdesk.build.pipeline import candidates, evidence
from newsdesk.build.pipeline.artifacts import Artifact, ArtifactStore
from newsdesk.build.pipeline.declaration import declare
from newsdesk.build.recipe import EncoderMember, LinearMember, Recipe
from newsdesk.build.training import contrastive, frozen, heads
from newsdesk.build.training.figures import OutOfFoldFigures
from newsdesk.build.training.linear import truths
from newsdesk.server.contract import QUALITIES
from newsdesk.server.runtime import calibrate, cascade, stacker
from newsdesk.server.runtime.cascade import Cascade
from newsdesk.server.runtime.lengths import words
from newsdesk.server.runtime.text import clean


class FittedRecipe:
    """The members of a recipe, fitted and combined; linear ones and frozen encoders alone."""

    def __init__(self, recipe: Recipe, folder: Path, states: States) -> None:
        store = ArtifactStore(folder / "artifacts", lambda line: None)
        made = declare(recipe).graph.run(["split"], store)
        recipe = candidates.possible(recipe, made["split"].figures["train"], lambda line: None)
        rows = tables.read(made["split"] / "train.parquet")
        self._states: Callable[[list[str]], np.ndarray] = states
        self.labels = tables.read_labels(made["split"].path)
        frozen_members = [member for member in recipe.members if _is_frozen(member)]
        of_rows = states([row.text for row in rows]) if frozen_members else np.empty((len(rows), 0), np.float32)
        made |= {f"embed {member.name}": _embedded(of_rows, folder) for member in frozen_members}
        made = declare(recipe).graph.run(["select"], store, made)
        serving = candidates.chosen(made["select"])
        self._heads: dict[str, frozen.Head] = {}
        self._linear: dict[str, linear.LinearClassifier] = {}
        truth, weights = truths(rows)
        for member in (member for member in recipe.members if member.name in serving):
            if isinstance(member, LinearMember):
                made = declare(recipe).graph.run([f"train {member.name}"], store, made)
                self._linear[member.name] = linear.LinearClassifier.load(made[f"train {member.name}"].path)
            elif isinstance(member, EncoderMember) and _is_frozen(member):
                asked = made[f"out-of-fold {member.name}"].metrics(OutOfFoldFigures)
                if asked.tuned:
                    texts = [row.text for row in rows]
                    encoder = contrastive.tune(member, texts, truth, recipe.seed)
                    self._states = partial(contrastive.states, member, encoder)
                    of_rows = self._states(texts)
                assert asked.cost
                self._heads[member.name] = frozen.fit(
                    of_rows, truth, len(self.labels), cost=asked.cost, balanced=member.balanced, weights=weights
                )
            else:
                raise SystemExit(f"{member.name}: only linear members and frozen encoders are asked from their fits")
        known, answers = evidence.out_of_fold(made["split"], {name: made[f"out-of-fold {name}"] for name in serving})
        costs = [1.0 if name in self._linear else 100.0 for name in serving]
        self._fit = fitting.fit_on_rows(
            known, answers, costs, recipe.ensemble, recipe.seed, folder, balanced=recipe.balanced
        )
        self._cascade = Cascade(self._fit.levels, self._fit.order, lambda graph: stacker.load(folder / graph.path))

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Return what "best" answers, FP32 [texts, labels]."""
        texts = [clean(text) for text in texts]
        members = []
        for name, calibrator in zip(self._fit.order, self._fit.calibrators, strict=True):
            logits = self._linear[name].logits(texts) if name in self._linear else self._of_head(name, texts)
            members.append(calibrate.ready(calibrator)(softmax(logits).astype(np.float32)))
        best = QUALITIES.index("best")
        return cascade.replay(self._cascade, np.stack(members).astype(np.float32), best, words(texts)).probabilities

    def _of_head(self, name: str, texts: list[str]) -> np.ndarray:
        return self._heads[name].logits(self._states(texts))


def _is_frozen(member: object) -> bool:
    if not isinstance(member, EncoderMember) or not member.frozen:
        return False
    if (member.max_length, member.pooling) != (MOST_TOKENS, POOLING):
        raise SystemExit(f"{member.name}: its states are not those that were read: {POOLING}, of {MOST_TOKENS} tokens")
    return True


def _embedded(states: np.ndarray, folder: Path) -> Artifact:
    """Return states in the place of the artifact of `embed`."""
    path = folder / "embedded"
    path.mkdir(exist_ok=True)
    np.save(path / heads.STATES, states)
    return Artifact(path, {"files": {}, "figures": {}})

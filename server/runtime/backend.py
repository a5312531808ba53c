"""Triton's Python backend: requests in, answers back to their own requests.

A request is the unit of failure: one with a bad text or quality fails with a message that names it, and the other
requests of its batch are answered.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # before the tokenizer's import: one thread a process

from newsdesk.server.contract import (
    ANSWERED_BY,
    LABEL,
    MEMBER_PROBABILITIES,
    PROBABILITIES,
    QUALITIES,
    QUALITY,
    TEXT,
    UNCERTAINTY,
    UNSURE,
    WINDOWS,
)
from newsdesk.server.runtime import cancellation, heartbeat, lifeline, manifest
from newsdesk.server.runtime.arrays import Array
from newsdesk.server.runtime.cancellation import Cancelled
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.drift import Drift
from newsdesk.server.runtime.drift_metrics import DriftMetrics
from newsdesk.server.runtime.errors import QualityError, TextError
from newsdesk.server.runtime.metrics import Metrics
from newsdesk.server.runtime.reference import WINDOW
from newsdesk.server.runtime.request import read_qualities, read_texts

_WINDOW = "news " * 512
"""A text that fills a window of any member."""
_WINDOWS_BOUND = 3 * 8
"""A batch is of eight windows, and takes no three times as long as its windows by themselves."""
_LEAST_BOUND, _MOST_BOUND = 8.0, 600.0
"""Seconds. Half a million characters are cut into tokens in one step: 1.4 s on a core that four processes shared."""


class TritonPythonModel:
    """The model as Triton's Python backend calls it."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version's members, and begin to show that this process works.

        Args:
            args: Triton's: "model_repository" and "model_version" name the folder, "model_config" is its configuration,
                JSON; "model_name" and "model_instance_name" go to the metrics

        Raises:
            ManifestError: the folder does not match its manifest.
            EngineError: a member cannot run here.
        """
        lifeline.hold()
        folder = Path(args["model_repository"]) / args["model_version"]
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        described = manifest.load(folder)
        self._classifier = Classifier(
            described,
            folder,
            parameters.get("target", ""),
            int(parameters.get("threads", 1)),
            float(parameters["unsure_share"]) if parameters.get("unsure_share") else None,
        )
        self._labels = np.array([label.encode() for label in self._classifier.labels], np.object_)
        self._levels = np.array([level.encode() for level in self._classifier.levels], np.object_)
        place = {"model": args["model_name"], "version": args["model_version"]}
        drift = None
        if described.reference:
            looked_back_on = Drift(described.reference, int(parameters.get("drift_window") or WINDOW))
            drift = DriftMetrics(looked_back_on, described.labels, place, args["model_instance_name"])
        self._metrics = Metrics(place, self._classifier.levels, drift)
        self._classifier.warm_up()
        heartbeat.start(self._longest_step())

    def _longest_step(self) -> float:
        """Return the seconds that no step of the work takes, by what a text of the length of a window takes here."""
        began = time.monotonic()
        self._classifier.classify([_WINDOW], np.array([QUALITIES.index("best")]))
        return min(max(_LEAST_BOUND, _WINDOWS_BOUND * (time.monotonic() - began)), _MOST_BOUND)

    @heartbeat.working()
    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer a batch of requests, each with its own response, an error among them.

        Args:
            requests: inputs TEXT, BYTES [n, 1], and QUALITY, BYTES [n, 1], which may be missing

        Returns:
            A response a request, in their order: the outputs that the request names, of the contract's shapes.
        """
        responses: list[Any] = [None] * len(requests)
        texts: list[str] = []
        qualities: list[Array] = []
        shares: list[tuple[int, slice, list[str]]] = []
        for i, request in enumerate(requests):
            raw = pb_utils.get_input_tensor_by_name(request, TEXT).as_numpy().ravel()
            quality = pb_utils.get_input_tensor_by_name(request, QUALITY)
            try:
                asked = read_qualities(None if quality is None else quality.as_numpy().ravel(), len(raw))
                own = read_texts(raw)
            except (TextError, QualityError) as error:
                self._metrics.failed("text" if isinstance(error, TextError) else "quality")
                responses[i] = _failed(str(error), pb_utils.TritonError.INVALID_ARG)
                continue
            shares.append((i, slice(len(texts), len(texts) + len(own)), request.requested_output_names()))
            texts += own
            qualities.append(asked)
        if texts:
            waiting = [requests[i] for i, *_ in shares]
            with cancellation.watching(lambda: all(request.is_cancelled() for request in waiting)):
                self._answer(texts, np.concatenate(qualities), shares, responses)
        self._metrics.hand_over()
        return responses

    def finalize(self) -> None:
        """Hand the last counts over and give back what the engines hold."""
        heartbeat.stop()
        self._metrics.hand_over(now=True)
        self._classifier.close()

    def _answer(
        self,
        texts: list[str],
        qualities: Array,
        shares: list[tuple[int, slice, list[str]]],
        responses: list[Any],
    ) -> None:
        try:
            answers = self._classifier.classify(texts, qualities)
        except Cancelled:
            self._metrics.failed("cancelled", len(shares))
            for i, *_ in shares:
                responses[i] = _failed("nobody waits for it any more", pb_utils.TritonError.CANCELLED)
            return
        except Exception as error:  # the process must outlive whatever an engine raises
            self._metrics.failed("engine", len(shares))
            for i, *_ in shares:
                responses[i] = _failed(f"newsdesk could not compute: {error}", pb_utils.TritonError.INTERNAL)
            return
        columns = {
            LABEL: self._labels[answers.probabilities.argmax(-1), None],
            PROBABILITIES: answers.probabilities,
            ANSWERED_BY: self._levels[answers.levels, None],
            WINDOWS: answers.windows[:, None],
            MEMBER_PROBABILITIES: np.ascontiguousarray(answers.members),
        }
        wanted = set[str]().union(*(asked for *_, asked in shares))
        if UNCERTAINTY in wanted:
            columns[UNCERTAINTY] = self._classifier.uncertainty(answers)
        if UNSURE in wanted:
            columns[UNSURE] = self._classifier.unsure(answers, qualities)[:, None]
        # A member's NaN too: what combines may have an answer for it.
        finite = np.isfinite(answers.probabilities).all(-1) & np.isfinite(answers.members).all((1, 2))
        all_finite = finite.all()
        for i, own, asked in shares:
            if all_finite or finite[own].all():
                # Triton would drop what nobody asked for, after it was made and handed over.
                outputs = [pb_utils.Tensor(name, column[own]) for name, column in columns.items() if name in asked]
                responses[i] = pb_utils.InferenceResponse(outputs)
            else:
                self._metrics.failed("engine")
                responses[i] = _failed("newsdesk computed no finite answer", pb_utils.TritonError.INTERNAL)
        self._metrics.answered(answers, qualities, texts)


def _failed(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))

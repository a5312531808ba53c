"""One model of a tritonserver, as its supervisor sees it."""

import json
import time
from typing import Any

from newsdesk.server.contract import ANSWERED_BY, LABEL, PROBABILITIES, TEXT
from newsdesk.server.machine.processes import Process
from newsdesk.server.serving.triton import ProbeAnswer, Triton, TritonError
from newsdesk.server.serving.workspace import GENERATION


class Endpoint:
    """The calls of one model.

    Raises:
        Refusal: by any call, where Triton answered with an error.
        TritonError: by any call, where it did not answer.
    """

    def __init__(self, triton: Triton, model: str) -> None:
        self._triton, self._model = triton, model

    @property
    def stopped(self) -> bool:
        """Whether the server was stopped by a signal."""
        return self._triton.stopped

    def infer(self, text: str, timeout: float) -> ProbeAnswer:
        """Ask for one text's label.

        Args:
            text: the article
            timeout: seconds

        Raises:
            TritonError: no answer, or none of the contract's shape.
        """
        inputs = [{"name": TEXT, "shape": [1, 1], "datatype": "BYTES", "data": [text]}]
        began = time.perf_counter()
        answer = self._ask("infer", {"inputs": inputs}, timeout)
        seconds = time.perf_counter() - began
        try:
            outputs = {output["name"]: output["data"] for output in answer["outputs"]}
            probability = max(outputs[PROBABILITIES])
            return ProbeAnswer(outputs[LABEL][0], probability, outputs[ANSWERED_BY][0], seconds)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise TritonError(f"the model's answer is not of the contract: {json.dumps(answer)[:300]}") from error

    def answered(self, timeout: float) -> int:
        """Return how many requests the model has computed since it was loaded; `timeout` is seconds."""
        stats = [version["inference_stats"] for version in self._ask("stats", None, timeout)["model_stats"]]
        return sum(counted["success"]["count"] - counted["cache_hit"]["count"] for counted in stats)

    def generation(self, timeout: float) -> str:
        """Return the number of the generation that answers, "" while the model is not loaded or does not answer."""
        try:
            config = self._ask("config", None, timeout)
        except TritonError:
            return ""
        return str(config.get("parameters", {}).get(GENERATION, {}).get("string_value", ""))

    def stubs(self) -> set[Process]:
        """Return the model's living backend processes, of every generation."""
        return self._triton.stubs(self._model)

    def log_size(self) -> int:
        """Return the bytes of Triton's log."""
        return self._triton.log_size()

    def failed_load(self, since: int) -> str:
        """Return why a load failed, from byte `since` of the log on, or ""."""
        return self._triton.failed_load(self._model, since)

    def _ask(self, what: str, body: dict[str, Any] | None, timeout: float) -> Any:
        return self._triton.ask(f"/v2/models/{self._model}/{what}", body, timeout)

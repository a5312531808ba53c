"""Locustfile: single texts to Triton over gRPC, with NVIDIA's client.

locust -f benchmarks/locust/triton.py --headless -u 200 -t 120s -H 127.0.0.1:8001 --load-profile steady
"""

import grpc.experimental.gevent
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from benchmarks.locust import answers
from benchmarks.locust.asking import Asking, Shape
from newsdesk.server.contract import LABEL, PROBABILITIES, TEXT

# Locust has patched the process by now, and no channel is open yet: else the first call blocks every greenlet.
grpc.experimental.gevent.init_gevent()

__all__ = ["Shape", "Triton"]
MODEL = "ag_news"
_OUTPUTS = [triton.InferRequestedOutput(LABEL), triton.InferRequestedOutput(PROBABILITIES)]
_SECONDS = 60
_MANY = 1_000_000


class Triton(Asking):
    host = "127.0.0.1:8001"

    def on_start(self) -> None:
        super().on_start()
        # A connection of its own, as each of many callers has.
        own = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self._client = triton.InferenceServerClient(self.host, channel_args=own)
        named = triton.InferRequestedOutput(PROBABILITIES, class_count=_MANY)
        classes = self._infer("Which labels are there?", [named]).as_numpy(PROBABILITIES).ravel()
        by_place = {int(place): label for _, place, label in (option.decode().split(":", 2) for option in classes)}
        self._labels = [by_place[place] for place in sorted(by_place)]

    def on_stop(self) -> None:
        super().on_stop()
        self._client.close()

    def ask(self, text: str, due: float) -> None:
        try:
            result = self._infer(text, _OUTPUTS)
        except InferenceServerException as error:
            self.tell(due, error)
            return
        label, row = result.as_numpy(LABEL).item(), result.as_numpy(PROBABILITIES).ravel()
        shares = {name: float(share) for name, share in zip(self._labels, row, strict=False)}
        problem = answers.problem(label.decode(), shares, self._labels)
        self.tell(due, RuntimeError(problem) if problem else None)

    def _infer(self, text: str, outputs: list[triton.InferRequestedOutput]) -> triton.InferResult:
        tensor = triton.InferInput(TEXT, [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[text.encode()]], np.object_))
        return self._client.infer(MODEL, [tensor], outputs=outputs, client_timeout=_SECONDS)

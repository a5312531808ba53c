"""Locustfile: single texts to the gateway's POST /v1/classify.

locust -f benchmarks/locust/rest.py --headless -u 200 -t 120s -H http://127.0.0.1:8080 --load-profile steady
"""

import json
import time

from locust import FastHttpUser

from benchmarks.locust import answers
from benchmarks.locust.asking import MOST_FLYING, Asking, Shape

__all__ = ["Rest", "Shape"]


class Rest(Asking, FastHttpUser):
    host = "http://127.0.0.1:8080"
    concurrency = MOST_FLYING

    def on_start(self) -> None:
        super().on_start()
        # Past Locust's client, which would count it.
        self._labels = frozenset(json.loads(self.client.client.urlopen(f"{self.host}/v1/labels").content)["labels"])

    def ask(self, text: str, due: float) -> None:
        with self.client.post("/v1/classify", json={"text": text}, name="classify", catch_response=True) as response:
            response.request_meta["response_time"] = (time.perf_counter() - due) * 1e3
            if response.status_code != 200:
                response.failure(f"status {response.status_code}: {response.error or response.text:.200}")
            elif problem := self._problem(response.text):
                response.failure(problem)

    def _problem(self, answer: str) -> str:
        try:
            (item,) = json.loads(answer)["items"]
            return answers.problem(item["label"], item["probabilities"], self._labels)
        except (ValueError, KeyError, TypeError) as error:
            return f"not an answer ({error!r}): {answer:.200}"

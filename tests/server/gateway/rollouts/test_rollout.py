"""Real Tritons with a second version of each model: it fails, drifts, is slow or a shadow, or does well.

Each model is asked by clients of every protocol meanwhile. No request of theirs fails.
"""

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from newsdesk.clients import Client, NewsdeskError, Prediction
from newsdesk.server.machine import servers
from newsdesk.server.rollouts import read_status
from tests.holding import until
from tests.launching import Callers, Server, free_ports, write_repository
from tests.server.gateway.conftest import STAND_IN
from tests.service.requests import tensor

NEWSDESK = Path(sys.executable).with_name("newsdesk")
CURRENT = STAND_IN.read_text()
OTHER = CURRENT.replace('KEYWORDS = {"treaty": 0, "match": 1,', 'KEYWORDS = {"treaty": 1, "match": 0,')
FAILING = CURRENT.replace('"stand-in, fail" in text', '"storm" in text')
DEADLY = OTHER.replace('"stand-in, end " in text', '"doom" in text')
SKEWED = CURRENT.replace('KEYWORDS = {"treaty": 0, "match": 1,', 'KEYWORDS = {"treaty": 1, "match": 1,')
SLOW = CURRENT.replace(
    "    def execute(self, requests):\n", "    def execute(self, requests):\n        time.sleep(1)\n"
)
SECOND = {"ag_news": FAILING, "topics": OTHER, "wires": DEADLY, "feeds": SKEWED}
RULED = {"alerts": SLOW, "briefs": CURRENT}
SHARE = 0.3
TEXTS = [f"{word} number {number}" for number in range(60) for word in ("treaty", "match", "shares", "storm")]


@dataclass
class Rolled:
    server: Server
    rest: str
    grpc: str

    @property
    def urls(self) -> list[str]:
        return [f"grpc://{self.grpc}", f"http://{self.rest}", f"gateway+http://{self.rest}"]

    @property
    def run(self) -> Path:
        (folder,) = (self.server.state / "run").iterdir()
        return folder

    def status(self, model: str) -> dict[str, Any]:
        return next(
            (msgspec.to_builtins(trial) for trial in read_status(self.run) if trial.model == model), {"state": ""}
        )

    def outcome(self, model: str) -> str:
        return servers.read_served(self.run)[f"{model}@2"].outcome

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's series with these labels."""
        lines = httpx.get(f"http://{self.rest}/metrics", trust_env=False).text.splitlines()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith(f"{name}{{") and all(part in line for part in wanted)
        )

    def canary(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [NEWSDESK, "canary", *arguments, "--state", self.server.state]
        command += ["--model-repository", self.server.repository]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)


class RolloutCallers(Callers):
    """Clients of every protocol that ask one model without a pause, and what came of it."""

    def __init__(self, rolled: Rolled, model: str) -> None:
        super().__init__(*(self._asking(url) for url in rolled.urls))
        self._model, self._urls = model, rolled.urls
        self.failed: list[str] = []
        self.answers: list[Prediction] = []
        self._asked = Counter[str]()

    def go_on(self, requests: int) -> int:
        """Wait for so many more of each client, so that none is left of those before; return the answers by then."""
        wanted = {url: self._asked[url] + requests for url in self._urls}
        until(lambda: all(self._asked[url] >= least for url, least in wanted.items()), lambda: self._asked)
        return len(self.answers)

    def _asking(self, url: str) -> Callable[[], None]:
        def ask() -> None:
            with Client(url, model=self._model, api_key="", timeout=60) as client:
                at = 0
                while not self._over.is_set():
                    at = (at + 7) % len(TEXTS)
                    try:
                        # Single texts and lists that hold texts for both versions.
                        items = [client.classify(TEXTS[at])] if at % 2 else client.classify(TEXTS[at : at + 12])
                    except NewsdeskError as error:
                        self.failed.append(repr(error))
                    else:
                        self.failed += [repr(item) for item in items if not isinstance(item, Prediction)]
                        self.answers += [item for item in items if isinstance(item, Prediction)]
                    self._asked[url] += 1

        return ask


@contextmanager
def trying(factory: pytest.TempPathFactory, second: dict[str, str], rule: str, shadow: str = "") -> Iterator[Rolled]:
    """Serve models by the stand-in, each with the second version that is named, as canaries but for one shadow."""
    repository, rest, grpc = factory.mktemp("models"), *map(str, free_ports()[:2])
    options = ["--target", "openvino:int8", "--instances", "1", "--gateway-port", rest, "--gateway-grpc-port", grpc]
    for name, model in second.items():
        folder = write_repository(repository, CURRENT, name=name) / name
        shutil.copytree(folder / "1", folder / "2")
        (folder / "2" / "model.py").write_text(model)
        options += ["--shadow", f"{name}=2"] if name == shadow else ["--canary", f"{name}=2:30%"]
    server = Server(
        repository, factory.mktemp("rollouts") / "state", options=[*options, "--rollout-rule", rule]
    ).start()
    try:
        server.until("Ctrl-C stops it")
        made = Rolled(server, f"127.0.0.1:{rest}", f"127.0.0.1:{grpc}")
        for name in second:
            until(lambda name=name: made.status(name)["state"] == "tried", server.text)
        yield made
    finally:
        server.dismiss()


@pytest.fixture(scope="module")
def rolled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rolled]:
    with trying(tmp_path_factory, SECOND, "least=40,errors=5%,latency=1000", shadow="wires") as made:
        yield made


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rolled]:
    with trying(tmp_path_factory, RULED, "least=40,errors=5%,latency=5,promote=120") as made:
        yield made


def answers_until_withdrawn(rolled: Rolled, load: RolloutCallers, model: str) -> int:
    """Wait for the withdrawal of a model's canary, and for answers after it; return how many came before those."""
    until(lambda: rolled.outcome(model), lambda: (rolled.status(model), rolled.server.text()))
    until(lambda: rolled.metric("newsdesk_gateway_trial_share", model=model) == 0, rolled.server.text)
    before = load.go_on(2)
    load.go_on(10)
    return before


def test_a_version_that_fails_is_withdrawn_and_nobody_sees_it_fail(rolled: Rolled) -> None:
    with RolloutCallers(rolled, "ag_news") as load:
        before = answers_until_withdrawn(rolled, load, "ag_news")
    assert load.failed == []
    assert {item.version for item in load.answers} == {"1", "2"}
    assert {item.version for item in load.answers[before:]} == {"1"}
    assert "withdrawn: " in rolled.outcome("ag_news")
    assert "of its requests failed" in rolled.outcome("ag_news")
    assert (rolled.server.repository / "ag_news" / "2.withdrawn" / "model.py").is_file()
    requests = "newsdesk_gateway_version_requests_total"
    assert rolled.metric(requests, model="ag_news", version="2", role="canary", outcome="failed") > 0
    assert rolled.metric(requests, model="ag_news", version="1", role="current", outcome="failed") == 0


def test_a_version_whose_labels_drift_is_withdrawn(rolled: Rolled) -> None:
    """It answers all requests, in time: only the shares of its labels tell."""
    with RolloutCallers(rolled, "feeds") as load:
        until(lambda: rolled.outcome("feeds"), lambda: (rolled.status("feeds"), rolled.server.text()))
    assert load.failed == []
    assert "withdrawn: its labels are spread unlike the current version's" in rolled.outcome("feeds")
    assert (rolled.server.repository / "feeds" / "2.withdrawn").is_dir()


def test_a_version_that_is_slow_is_withdrawn(ruled: Rolled) -> None:
    """It answers all requests, and as the current version does: only its time tells."""
    with RolloutCallers(ruled, "alerts") as load:
        before = answers_until_withdrawn(ruled, load, "alerts")
    assert load.failed == []
    assert {item.version for item in load.answers[:before]} == {"1", "2"}
    assert {item.version for item in load.answers[before:]} == {"1"}
    assert "withdrawn: half of its requests took more than" in ruled.outcome("alerts")
    assert (ruled.server.repository / "alerts" / "2.withdrawn" / "model.py").is_file()


def test_a_version_that_keeps_to_the_rule_is_promoted_by_it(ruled: Rolled) -> None:
    with RolloutCallers(ruled, "briefs") as load:
        until(lambda: ruled.outcome("briefs"), lambda: (ruled.status("briefs"), ruled.server.text()))
        before = load.go_on(2)
        load.go_on(10)
    assert load.failed == []
    assert {item.version for item in load.answers[:before]} == {"1", "2"}
    assert {item.version for item in load.answers[before:]} == {"2"}
    assert ruled.outcome("briefs") == "promoted"
    assert ruled.status("briefs")["requests"] >= 120
    with triton.InferenceServerClient(f"127.0.0.1:{ruled.server.ports[1]}") as client:  # Triton's own port, too
        assert client.infer("briefs", [tensor(TEXTS[:1])]).get_response().model_version == "2"
    assert "briefs 2, a canary that answers 30 % of the texts: promoted" in ruled.canary("status").stdout


def test_a_version_that_is_tried_is_no_model_of_its_own_to_callers(rolled: Rolled) -> None:
    """A caller who names no model is answered by the only one, though Triton serves two."""
    for url in *rolled.urls, f"grpc://127.0.0.1:{rolled.server.ports[1]}", f"http://127.0.0.1:{rolled.server.ports[0]}":
        with Client(url, api_key="") as client:
            assert sorted(client.models()) == sorted(SECOND)


def test_a_text_has_one_answer_whoever_asks_and_a_command_promotes(rolled: Rolled) -> None:
    answered: list[list[Prediction]] = []
    for url in rolled.urls:
        with Client(url, model="topics", api_key="") as client:
            answered.append(client.classify(TEXTS))  # type: ignore[arg-type]
            assert answered[-1][5].version == client.classify(TEXTS[5]).version  # type: ignore[union-attr]
    versions = [item.version for item in answered[0]]
    for items in answered:
        assert [item.index for item in items] == list(range(len(TEXTS)))
        assert [item.version for item in items] == versions
    assert len(TEXTS) * SHARE == pytest.approx(versions.count("2"), abs=5 * (len(TEXTS) * SHARE * (1 - SHARE)) ** 0.5)
    swapped = {"treaty": "Sports", "match": "World", "shares": "Business", "storm": "Sci/Tech"}
    usual = swapped | {"treaty": "World", "match": "Sports"}
    for text, item in zip(TEXTS, answered[0], strict=True):
        assert item.label == (swapped if item.version == "2" else usual)[text.split()[0]]
    _check_pins(rolled, TEXTS[:8])
    _check_words(rolled, TEXTS[versions.index("2")])

    with RolloutCallers(rolled, "topics") as load:
        ran = rolled.canary("promote", "--model", "topics", "--json")
        assert (ran.returncode, json.loads(ran.stdout or "[{}]")[0].get("state")) == (0, "promoted"), ran.stderr
        before = len(load.answers)
        until(lambda: len(load.answers) > before + 40, rolled.server.text)
    assert load.failed == []
    assert {item.version for item in load.answers[-20:]} == {"2"}
    assert "topics 2, a canary that answers 30 % of the texts: promoted" in rolled.canary("status").stdout


def _check_pins(rolled: Rolled, texts: list[str]) -> None:
    """A request that names its version is answered by that one."""
    with triton.InferenceServerClient(rolled.grpc) as client:
        for version in "1", "2":
            answer = client.infer("topics", [tensor(texts)], model_version=version)
            assert answer.get_response().model_version == version
            assert answer.get_response().model_name == "topics"
            assert answer.as_numpy("PROBABILITIES").dtype == np.float32
        mixed = client.infer("topics", [tensor(texts)], request_id="mine").get_response()
        assert mixed.id == "mine"
    body = {"inputs": [{"name": "TEXT", "shape": [8, 1], "datatype": "BYTES", "data": texts}]}
    url = f"http://{rolled.rest}/v2/models/topics"
    over_http = httpx.post(f"{url}/infer", json=body, trust_env=False).json()
    assert over_http["model_name"] == "topics"
    assert over_http.get("parameters", {}).get("versions") == mixed.parameters["versions"].string_param
    outputs = {output["name"]: output for output in over_http["outputs"]}
    assert outputs["PROBABILITIES"]["shape"] == [8, 4]
    assert len(outputs["LABEL"]["data"]) == 8
    pinned = httpx.post(f"{url}/versions/2/infer", json=body, trust_env=False).json()
    assert pinned["model_version"] == "2"


def _check_words(rolled: Rolled, text: str) -> None:
    """The words of a text are explained by the version that answered it."""
    asked = {"text": text, "explain": True}
    (item,) = httpx.post(f"http://{rolled.rest}/v1/models/topics/classify", json=asked, trust_env=False).json()["items"]
    assert item["version"] == "2"
    assert len(item["words"]) == len(text.split())


def test_a_shadow_is_compared_and_answers_nobody(rolled: Rolled) -> None:
    with Client(rolled.urls[2], model="wires", api_key="") as client:
        assert client.classify("doom 1").version == "1"  # type: ignore[union-attr]
        rolled.server.until("wires@2: healed")  # its process ended of it
        for _ in range(10):  # a shadow that has just been healed may lose a text, which nobody asks again
            assert client.classify("doom 1").version == "1"  # type: ignore[union-attr] - and the text is not suspect
            end = time.monotonic() + 5
            while (deaths := rolled.server.text().count("wires@2: backend process")) < 2 and time.monotonic() < end:
                time.sleep(0.05)
            if deaths == 2:
                break
        rolled.server.until("wires@2: healed", count=2)
    with RolloutCallers(rolled, "wires") as load:
        until(lambda: rolled.outcome("wires"), lambda: (rolled.status("wires"), rolled.server.text()))
    assert load.failed == []
    assert {item.version for item in load.answers} == {"1"}
    assert "of the texts another label" in rolled.outcome("wires")
    for outcome in "agreed", "disagreed":
        assert rolled.metric("newsdesk_gateway_shadow_texts_total", model="wires", outcome=outcome) > 0
    with (
        triton.InferenceServerClient(rolled.grpc) as client,
        pytest.raises(InferenceServerException, match="version"),
    ):
        client.infer("wires", [tensor(TEXTS[:2])], model_version="2")

"""The rule, which texts a canary answers, and the shadow's queue, without a server."""

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from newsdesk.clients import Prediction, ServerFailed, TextRefused
from newsdesk.clients.errors import interrupted, late
from newsdesk.clients.options import Options
from newsdesk.server.gateway.rollouts import buckets
from newsdesk.server.gateway.rollouts.candidate import CandidateClient, CandidateFailed
from newsdesk.server.gateway.rollouts.shadow import MOST_WAITING, Compared, Shadow
from newsdesk.server.gateway.rollouts.trial import Tally, Trial
from newsdesk.server.gateway.telemetry import Telemetry
from newsdesk.server.rollouts import PROMOTE, WITHDRAW, Candidate, Rule
from tests.server.gateway import gateways

RULE = Rule(least=100, errors=0.05, latency=2.0, disagreement=0.1)


def see(tally: Tally, requests: int, failed: int = 0, seconds: float = 0.02, texts: int = 1) -> None:
    for number in range(requests):
        tally.note(texts, seconds, number < failed)


def trial(rule: Rule = RULE, compared: bool = False, **current: Any) -> Trial:
    made = Trial(rule, compared)
    see(made.current, **({"requests": 1000} | current))
    return made


def test_nothing_is_decided_before_enough_requests() -> None:
    made = trial()
    see(made.candidate, 99, failed=99, seconds=9.0)
    assert made.verdict() is None
    see(made.candidate, 1)
    assert made.verdict() == (WITHDRAW, "99.0% of its requests failed, 0.0% of the current version's")


def test_a_candidate_that_fails_no_more_than_the_current_version_stays() -> None:
    made = trial(requests=1000, failed=300)
    see(made.candidate, 1000, failed=290)
    assert made.verdict() is None


def test_a_candidate_that_turns_bad_late_is_seen() -> None:
    made = trial()
    see(made.candidate, 100_000)
    see(made.candidate, 60, failed=60)
    assert made.verdict() is not None


def test_a_slow_canary_is_withdrawn_by_requests_of_like_size_alone() -> None:
    made = trial(seconds=0.02)
    see(made.candidate, 500, seconds=1.0, texts=40)
    assert made.verdict() is None
    see(made.candidate, 500, seconds=0.039)
    assert made.verdict() is None
    see(made.candidate, 1000, seconds=0.05)
    assert made.verdict() == (WITHDRAW, "half of its requests took more than 50.0 ms, 20.0 ms of the current version's")


def test_a_shadow_is_judged_by_what_it_answers_and_not_by_its_time() -> None:
    made = trial(compared=True)
    see(made.candidate, 1000, seconds=9.0)
    for number in range(100):
        made.compare(agreed=number % 10 > 0)
    assert made.verdict() is None
    made.compare(agreed=False)
    assert made.verdict() == (WITHDRAW, "it gave 10.9% of the texts another label")


def label(tally: Tally, first: int, **counts: int) -> None:
    labels = [label for label, count in counts.items() for _ in range(count)]
    tally.labelled((f"text {number}", label) for number, label in enumerate(labels, first))


def test_a_canary_whose_labels_drift_is_withdrawn() -> None:
    made = trial()
    see(made.candidate, 200)
    label(made.current, 0, World=500, Sports=500)
    label(made.candidate, 5000, World=70, Sports=29)
    assert made.verdict() is None  # of 99 texts
    label(made.candidate, 6000, World=1)
    assert made.verdict() is None  # an index of 0.17
    label(made.candidate, 7000, World=200)
    expected = (270 / 300 - 0.5) * math.log(271 / 300 / 0.5) + (29 / 300 - 0.5) * math.log(29 / 300 / 0.5)
    assert made.drift()[0] == pytest.approx(expected, abs=0.01)
    assert made.status(Candidate("2"), "1", "tried").drift_index == round(made.drift()[0], 4)
    why = f"its labels are spread unlike the current version's, by an index of {made.drift()[0]:.2f}"
    assert made.verdict() == (WITHDRAW, why)


def test_labels_drift_by_more_than_chance_and_each_text_counts_once() -> None:
    made = trial(Rule(least=10, drift=0.0))
    see(made.candidate, 200)
    label(made.current, 0, World=12, Sports=8)
    label(made.candidate, 5000, World=8, Sports=12)
    assert 0 < made.drift()[0] < made.drift()[1]
    assert made.verdict() is None
    for _ in range(500):
        label(made.candidate, 5000, World=1)
    assert made.candidate.labels == {"World": 8, "Sports": 12}
    label(made.candidate, 9000, World=2000)
    assert made.candidate.labels == {"World": 1000}  # the last ones


def test_it_is_promoted_by_the_rule_where_the_rule_says_so() -> None:
    made = trial(Rule(least=100, promote=500))
    see(made.candidate, 499)
    assert made.verdict() is None
    see(made.candidate, 1)
    assert made.verdict() == (PROMOTE, "it kept to the rule for 500 requests")


def test_a_share_of_the_texts_is_chosen_and_always_the_same_ones() -> None:
    texts = [f"headline {number} of the day" for number in range(20_000)]
    chosen = [text for text in texts if buckets.place(text, "2") < 0.05]
    assert len(chosen) == pytest.approx(1000, abs=5 * (1000 * 0.95) ** 0.5)  # five standard deviations
    assert [text for text in texts if buckets.place(text, "2") < 0.05] == chosen
    again = [text for text in chosen if buckets.place(text, "3") < 0.05]
    assert len(again) < 0.15 * len(chosen)  # the next canary is tried on others


def test_what_reads_alike_is_answered_alike() -> None:
    place = buckets.place("Shares & bonds fall", "2")
    for same in "Shares &amp; bonds  fall ", "<b>Shares</b> &amp; bonds fall", b"Shares & bonds\tfall":
        assert buckets.place(same, "2") == place
    assert buckets.place(b"caf\xe9 \xff", "2") == buckets.place(b"caf\xe9 \xff", "2")  # not UTF-8
    assert 0 <= buckets.place("half a character \ud800", "2") < 1


class Failing:
    """Stands where the client of the SDK stands: ends with an error, until there are none left."""

    def __init__(self, *errors: Exception | None) -> None:
        self._errors = list(errors)

    async def classify(self, text: str, **wanted: Any) -> Prediction:
        if error := self._errors.pop(0):
            raise error
        return Prediction(0, "Business", {"Business": 1.0}, "m")


PROCESS, SERVER = interrupted("grpc://x", "Stub process is not healthy", "ag_news@2_0"), interrupted("grpc://x", "gone")


@pytest.mark.parametrize(
    ("share", "error", "counted", "failed"),
    [
        (0.1, ServerFailed("told to"), 1, 1.0),
        (0.1, PROCESS, 1, 1.0),  # its own process ended
        (0.1, SERVER, 0, 0.0),  # the server ended, and the current version with it
        (0.1, late("grpc://x"), 1, 1.0),
        (0.0, late("grpc://x"), 1, 0.0),  # a shadow may be late
        (0.1, TextRefused(0, "empty"), 1, 0.0),
        (0.1, None, 1, 0.0),
    ],
)
def test_what_the_candidate_is_to_blame_for(
    tmp_path: Path, share: float, error: Exception | None, counted: int, failed: float
) -> None:
    async def asking() -> Trial:
        made = Trial(RULE, compared=not share)
        client = CandidateClient(gateways.launch(tmp_path), Candidate("2", share, "ag_news"), Telemetry(), made)
        await client._client.close()
        client._client = Failing(error)  # type: ignore[assignment]
        with suppress(CandidateFailed):
            await client.classify(["a text"], Options())
        await client.upstream.close()
        return made

    made = asyncio.run(asking())
    assert (made.candidate.count, made.candidate.failed) == (counted, failed)


def test_a_candidate_that_fails_again_and_again_is_left_alone_for_a_while(tmp_path: Path) -> None:
    async def asking() -> list[bool]:
        made = Trial(RULE, compared=False)
        client = CandidateClient(gateways.launch(tmp_path), Candidate("2", 0.1, "ag_news"), Telemetry(), made)
        await client._client.close()
        client._client = Failing(PROCESS, PROCESS, None, PROCESS, PROCESS, PROCESS)  # type: ignore[assignment]
        paused = []
        for _ in range(6):
            with suppress(CandidateFailed):
                await client.classify(["a text"], Options())
            paused.append(client.paused)
        await client.upstream.close()
        return paused

    assert asyncio.run(asking()) == [False] * 5 + [True]


class Tried:
    """Stands where the shadow's client stands: answers once it is let."""

    candidate = Candidate("2", model="ag_news")
    paused = False

    def __init__(self) -> None:
        self.let, self.asked = asyncio.Event(), asyncio.Queue[list[str]]()

    async def classify(self, texts: Sequence[str], asked: Any) -> list[Prediction]:
        self.asked.put_nowait(list(texts))
        await self.let.wait()
        if "fail" in texts:
            raise CandidateFailed("told to")
        return [Prediction(place, text, {text: 1.0}, "m") for place, text in enumerate(texts)]


def test_the_shadow_takes_what_it_has_room_for_and_nobody_waits_for_it() -> None:
    async def shadowing() -> tuple[str, Trial]:
        tried, made, telemetry = Tried(), Trial(RULE, compared=True), Telemetry()
        shadow = Shadow(tried, telemetry, made, queued=lambda: 0)  # type: ignore[arg-type]
        running = asyncio.create_task(shadow.run())
        shadow.offer([Compared("fail", None, "a")])
        await tried.asked.get()
        others = ["a"] * (MOST_WAITING - 10) + ["b"] * 20 + ["a" * 20_000]
        shadow.offer(Compared(text, None, "a") for text in others)  # returns though nothing is answered
        tried.let.set()
        while made.texts_compared < MOST_WAITING:
            await tried.asked.get()
            await asyncio.sleep(0)
        running.cancel()
        return telemetry.exposition().decode(), made

    metrics, made = asyncio.run(asyncio.wait_for(shadowing(), 20))
    counted = 'newsdesk_gateway_shadow_texts_total{model="ag_news",outcome="%s",version="2"} %.1f'
    for outcome, texts in {"agreed": 246, "disagreed": 10, "dropped": 11, "failed": 1}.items():
        assert counted % (outcome, texts) in metrics.replace(
            f'outcome="{outcome}",model="ag_news"', f'model="ag_news",outcome="{outcome}"'
        ), metrics
    assert made.disagreement == pytest.approx(10 / 256)

"""Scoring on a real Ray cluster of two nodes of this machine, one of which is killed meanwhile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import servers
from newsdesk.server.scoring.answers import ScoredTexts, ScoringModel
from newsdesk.server.scoring.job import ScoringJob, run
from newsdesk.server.scoring.work import Key, Texts
from tests.server.scoring import jobs
from tests.server.scoring.jobs import read, score, texts, write

pytestmark = pytest.mark.long


_AGENTS = "metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port"
"""Ports at which a node finds its agents. It waits for those that it does not know, and dies where that takes long."""


def _node() -> dict[str, Any]:
    return {"num_cpus": 1, "include_dashboard": False, **dict(zip(_AGENTS, servers.free_ports(4), strict=True))}


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """A cluster of two nodes of a core each, and the one that may be killed."""
    # A machine with other work takes its time.
    monkeypatch.setenv("RAY_agent_register_timeout_ms", "120000")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "120")
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=_node())
    ray.init(address=cluster.address, log_to_driver=False)
    yield [cluster, cluster.add_node(**_node())]
    ray.shutdown()
    cluster.shutdown()


def test_a_node_that_dies_loses_nothing_and_nothing_is_there_twice(
    nodes: list[Any], model: ScoringModel, tmp_path: Path
) -> None:
    from newsdesk.server.scoring.cluster import Cluster

    killed = []

    class Killed(Cluster):
        def answers(self, questions: Iterator[tuple[Key, Texts]]) -> Iterator[tuple[Key, ScoredTexts]]:
            for count, answered in enumerate(super().answers(questions)):
                if count == 3:
                    nodes[0].remove_node(nodes[1], allow_graceful=False)
                    killed.append(count)
                yield answered

    count = 40 * jobs.CHUNK
    source, out = write(tmp_path / "in.parquet", count), tmp_path / "out.parquet"
    workers = Killed(model)
    assert workers.count == 2
    outcome = run(ScoringJob(str(source), str(out), model), workers, print)
    assert killed == [3]
    assert (outcome.rows, outcome.refused) == (count, 0)
    rows = read(out)
    assert [(row["id"], row["text"]) for row in rows] == list(enumerate(texts(count)))
    score(source, tmp_path / "whole.parquet", model)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()

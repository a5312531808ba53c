"""Scoring on a real Ray cluster of two nodes of this machine, one of which is killed meanwhile."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from newsdesk.server.scoring.answers import Answers, Model
from newsdesk.server.scoring.job import Job, run
from newsdesk.server.scoring.work import Key, Texts
from tests.server.scoring import jobs
from tests.server.scoring.jobs import read, score, texts, write

pytestmark = pytest.mark.long


@pytest.fixture
def nodes() -> Iterator[list[Any]]:
    """A cluster, and the node that may be killed: the driver's own has no core, and another has the other one."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made = [cluster, cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    ray.init(address=cluster.address, log_to_driver=False)
    yield made
    ray.shutdown()
    cluster.shutdown()


def test_a_node_that_dies_loses_nothing_and_nothing_is_there_twice(
    nodes: list[Any], model: Model, tmp_path: Path
) -> None:
    from newsdesk.server.scoring.cluster import Cluster

    killed = []

    class Killed(Cluster):
        def answers(self, questions: Iterator[tuple[Key, Texts]]) -> Iterator[tuple[Key, Answers]]:
            for count, answered in enumerate(super().answers(questions)):
                if count == 3:
                    nodes[0].remove_node(nodes[2], allow_graceful=False)
                    killed.append(count)
                yield answered

    count = 40 * jobs.CHUNK
    source, out = write(tmp_path / "in.parquet", count), tmp_path / "out.parquet"
    workers = Killed(model)
    assert workers.count == 2
    outcome = run(Job(str(source), str(out), model), workers, print)
    assert killed == [3]
    assert (outcome.rows, outcome.refused) == (count, 0)
    rows = read(out)
    assert [(row["id"], row["text"]) for row in rows] == list(enumerate(texts(count)))
    score(source, tmp_path / "whole.parquet", model)
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()

"""The checkpoint that peers serve: transformers' own class, with the shipped member's weights."""

from pathlib import Path

import torch
from transformers import pipeline

from benchmarks import MODEL, one_member
from benchmarks.peers import checkpoint
from newsdesk.server.runtime import manifest
from newsdesk.server.runtime.classifier import Classifier
from newsdesk.server.runtime.repository import latest_version
from newsdesk.server.serving.settings import Settings
from tests.headlines import TEXTS, unique


def test_a_peer_names_the_members_labels(tmp_path: Path) -> None:
    """The head was not fitted on these texts, and no head could do so on states that are not the member's."""
    version = latest_version(one_member.write(Settings().model_repository, "minilm", tmp_path) / MODEL)
    folder = checkpoint.write(version, unique(60), tmp_path / "cache")
    torch.set_num_threads(1)
    answers = pipeline("text-classification", str(folder), device="cpu")(TEXTS, truncation=True, max_length=256)
    shipped = Classifier(manifest.load(version), version).classify(TEXTS)
    named = [manifest.load(version).labels[row] for row in shipped.probabilities.argmax(1)]
    assert sum(a["label"] == label for a, label in zip(answers, named, strict=True)) >= 0.8 * len(TEXTS)
    assert checkpoint.write(version, unique(60), tmp_path / "cache") == folder

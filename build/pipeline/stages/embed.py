"""Read every training row once by an encoder that stays frozen."""

from pathlib import Path

import numpy as np

from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.pipeline.fits import rows_of
from newsdesk.build.training import frozen
from newsdesk.build.training.heads import LENGTHS, STATES


def embed(
    folder: Path, say: Say, *, rows: Artifact, base: str, max_length: int, pooling: str, name: str
) -> dict[str, int]:
    """Leave states.npy, the pooled states FP32 [rows, hidden], and lengths.npy, the tokens of each row.

    Args:
        folder: where the files go
        say: shows a line
        rows: the artifact of `split`
        base: the encoder: its name on the hub, or its folder
        max_length: tokens of a text that are read, at most
        pooling: how the states of the tokens become one
        name: the member's, for messages: members of the same base share the artifact
    """
    texts = [row.text for row in rows_of(rows, "train")]
    states, lengths = frozen.embed(base, name, texts, max_length, pooling)
    np.save(folder / STATES, states)
    np.save(folder / LENGTHS, np.array(lengths))
    return {"rows": len(texts), "hidden_size": states.shape[1]}

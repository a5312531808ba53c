"""Export a fit to ONNX with parity checked: model.fp32.onnx, tokenizer.json or features.json, member.json."""

from pathlib import Path

from newsdesk.build.compile.metrics import ExportFigures
from newsdesk.build.data import splits
from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.pipeline.families import call
from newsdesk.build.pipeline.fits import MemberFit, rows_of

_PARITY_ROWS = 100


def export(
    folder: Path, say: Say, *, rows: Artifact, train: Artifact, fit: MemberFit, max_length: int, seed: int
) -> ExportFigures:
    """Export a fit, and return the figures of its family's own `export`.

    Args:
        folder: where the files go
        say: shows a line
        rows: the artifact of `split`; parity is proved on some of its validation rows, where the family wants texts
        train: the artifact of `train`
        fit: that is exported
        max_length: tokens that the graph must have positions for; 0 for texts that are read whole
        seed: of the rows for parity
    """
    texts = [row.text for row in splits.shuffled(rows_of(rows, "validation"), _PARITY_ROWS, seed)]
    return call(fit.family.export, fit.fitted(train), folder, max_length, texts)

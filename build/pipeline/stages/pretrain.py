"""Go on pretraining an encoder's base on the texts of all training rows, a fold's too: no label is read."""

from pathlib import Path

from newsdesk.build.pipeline.artifacts import Artifact, Say
from newsdesk.build.pipeline.fits import rows_of
from newsdesk.build.recipe import EncoderMember, Pretrain
from newsdesk.build.training import pretraining
from newsdesk.build.training.figures import PretrainFigures


def pretrain(
    folder: Path,
    say: Say,
    *,
    rows: Artifact,
    base: str,
    max_length: int,
    min_piece_count: int,
    pretrain: Pretrain,
    seed: int,
    name: str,
) -> PretrainFigures:
    """Leave a `from_pretrained` folder, with the vocabulary pruned where the member asks for that.

    Args:
        folder: where the files go
        say: shows a line
        rows: the artifact of `split`
        base: the encoder: its name on the hub, or its folder
        max_length: tokens of a text that are read, at most
        min_piece_count: how often a piece must stand in the texts to stay in the vocabulary; 0 keeps all
        pretrain: epochs, batches and learning rate
        seed: of the order and of what is hidden
        name: the member's, for messages: members and teachers with the same base share the artifact
    """
    member = EncoderMember(
        name=name, base=base, max_length=max_length, min_piece_count=min_piece_count, pretrain=pretrain
    )
    train, validation = ([row.text for row in rows_of(rows, part)] for part in ("train", "validation"))
    return pretraining.pretrain(member, train, validation, seed, folder)

"""The figures of fits, as the artifacts and the manifest have them: a field's name is the name there."""

from msgspec import Struct, field, structs

from newsdesk.build.evaluation.metrics import Summary


class ValidationScores(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model on the validation rows: after an epoch, with weights to choose from, or as it was fitted at once."""

    epoch: int | float | None = None
    """Counted from 1; the Trainer counts parts of an epoch, too."""
    name: str = ""
    """The name of the candidate whose weights these are."""
    share: float | None = None
    """The share of the way from the pretrained weights to the candidate's."""
    accuracy: float
    log_loss: float
    """In nats."""
    macro_f1: float | None = None
    chosen: bool = False
    """Whether the candidate's weights were taken."""

    @classmethod
    def of(cls, summary: Summary) -> "ValidationScores":
        """Return the scores of a summary, without an epoch or a candidate."""
        return cls(**structs.asdict(summary))


class FitFigures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A fit. A field that a kind of member has no figure for is left out of the record."""

    rows: int
    """Training rows."""
    device: str = ""
    """A GPU's name, or "cpu"."""
    window: int = 0
    """Tokens that an encoder reads at once."""
    cost: float | None = None
    """scikit-learn's C, of the linear layer that is fitted alone."""
    tuned: bool = False
    """Whether the encoder below that layer was fine-tuned before (`contrastive`)."""
    pieces_before: int | None = None
    """This and the next two are those of `vocabulary.VocabularyFigures`, where the vocabulary was pruned."""
    pieces: int | None = None
    min_count: int | None = None
    taught_texts: int | None = None
    """Texts that a student learned from beside the rows."""
    ngrams: int | None = None
    """N-grams that have a row in a student's table."""
    terms: int | None = None
    """Terms of a linear member."""
    validation: ValidationScores
    """The model that was kept."""
    epochs: list[ValidationScores] | None = None
    candidates: list[ValidationScores] | None = None


class PretrainFigures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The pretraining of an encoder's base."""

    texts: int
    device: str
    pieces_before: int | None = None
    """This and the next two are those of `vocabulary.VocabularyFigures`, where the vocabulary was pruned."""
    pieces: int | None = None
    min_count: int | None = None
    loss: float | None
    """The last of the training, in nats a hidden piece; None where training ended before the first was recorded."""
    validation: list[float]
    """The loss on the validation texts after each epoch."""


class TeachFigures(Struct, frozen=True, kw_only=True):
    """The answers of a member's teachers."""

    teachers: dict[str, ValidationScores]
    """By the name of the fit."""
    rows: int
    new: int
    """Texts that are no rows."""
    excerpts: int = field(name="pieces")  # the name in the records of older builds
    """Excerpts of the rows."""
    accuracy_on_training_rows: float


class OutOfFoldFigures(Summary, frozen=True, kw_only=True, omit_defaults=True):
    """A member's answers to rows that it was not fitted on."""

    rows: int
    cost: float | None = None
    """scikit-learn's C of a linear layer that is fitted alone: by the answers, of a tuned encoder by the recipe."""
    tuned: bool = False
    """Whether the answers are of encoders that were fine-tuned before that layer was fitted."""

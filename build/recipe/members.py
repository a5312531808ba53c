"""The recipe's members: each kind with how it is fitted."""

import math
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from newsdesk.build.recipe.fields import Fraction, Name, Positive, Share, ViewName
from newsdesk.build.recipe.sources import Source
from newsdesk.server.runtime.ngrams import Features


# Defaults are left out of what is recorded, so that a new field does not make an old training a new one.
class Adversarial(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Fit each batch also where its words are moved the way that raises the loss most (`training.adversary`)."""

    method: Literal["pgd", "freelb"] = "pgd"
    """"pgd" with one step is FGM."""
    norm: Annotated[float, Meta(gt=0)] = 0.5
    """How far a text's word embeddings are moved, all its tokens together (L2)."""
    steps: Positive = 1
    """Each costs one more pass."""


class Train(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """How an encoder is fitted; `newsdesk.build.training.fitting` says where each method comes from."""

    epochs: Annotated[float, Meta(gt=0)] = 3
    batch_size: Positive = 32
    learning_rate: Annotated[float, Meta(gt=0)] = 5e-5
    schedule: str = "linear"
    """linear, cosine, polynomial, constant, … (transformers' SchedulerType)."""
    cycles: Annotated[int, Meta(ge=1, le=20)] = 1
    """How many times a cosine's rate falls from its peak to nothing (SGDR: Loshchilov and Hutter 2017)."""
    layer_decay: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Share of the learning rate that each layer has of the one above it."""
    warmup_ratio: Fraction = 0.06
    weight_decay: Annotated[float, Meta(ge=0)] = 0.01
    label_smoothing: Fraction = 0.0
    r_drop: Annotated[float, Meta(ge=0)] = 0.0
    """Weight of R-Drop's term; 0 turns it off, and saves its second pass."""
    adversarial: Adversarial | None = None
    snapshots: Annotated[int, Meta(ge=0, le=20)] = 0
    """Cycles of the learning rate, each of which leaves a member of its own; 0 is an ordinary run."""
    frozen_layers: Annotated[int, Meta(ge=0)] = 0
    """The lowest layers, with the embeddings, that stay as they were pretrained. Nothing is propagated back through
    them, so a step of a large encoder is much cheaper."""
    bf16: bool = True
    """Autocast, where the hardware has bf16; elsewhere it is fp32."""
    max_rows: Annotated[int, Meta(ge=0)] = 0
    """0 means all."""
    views: dict[ViewName, Share] = {}
    """View → share of the rows that are read in it, drawn anew each epoch. Empty: every row whole."""
    frozen_embeddings: bool = False
    """Whether the embeddings stay as they were pretrained: words that the rows never showed keep their place beside
    those that they did."""
    average: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Decay a step of an exponential average of the weights, which is a candidate beside the last ones; 0: none."""
    interpolate: tuple[Fraction, ...] = ()
    """How far from the pretrained to the fitted weights, 1 being all the way: more candidates (WiSE-FT: Wortsman et al.
    2022, "Robust fine-tuning of zero-shot models"). The nearest to the pretrained that is as good is taken."""

    def __post_init__(self) -> None:
        if self.cycles > 1 and self.schedule != "cosine":
            raise ValueError(
                f'{self.cycles} cycles of the schedule "{self.schedule}"; expected schedule = "cosine", or one cycle'
            )


class Pretrain(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Go on pretraining an encoder before it is fitted, on the training rows' texts without their labels.

    That is task-adaptive pretraining (Gururangan et al. 2020, "Don't Stop Pretraining").
    `newsdesk.build.training.pretraining` says how.
    """

    epochs: Annotated[float, Meta(gt=0)] = 10
    batch_size: Positive = 256
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-4


class Distil(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Learn from other members' probabilities, beside the labels (Hinton, Vinyals, Dean 2015)."""

    teachers: list[Name] = []
    """Members whose mean probability teaches. Empty: the recipe's `teaching`, or where it has none the members that
    stand behind this one; the last of them learns from the labels alone."""
    weight: Fraction = 0.7
    """Share of the loss; the labels have the rest."""
    temperature: Annotated[float, Meta(gt=0)] = 2.0


class Student(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The n-grams that a member of kind "ngrams" reads, and how it is fitted."""

    features: Features = Features()
    min_count: Positive = 2
    """How often an n-gram must stand in the training rows to have a row in the table."""
    max_ngrams: Positive = 240_000
    """The most rows; where more n-grams are met often enough, the most frequent."""
    kept_ngrams: Annotated[int, Meta(ge=0)] = 0
    """The most rows after the fit: those that moved furthest from nothing; 0 keeps all."""
    width: Positive = 16
    """Numbers a row while it is fitted. Without a hidden layer they are multiplied out, to one a label, on export."""
    hidden: Annotated[int, Meta(ge=0)] = 64
    """Units of a layer (ReLU) between the mean of the rows and the logits; 0 is none, a linear model."""
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.3
    """Share of a text's n-grams that it is read without, each time anew."""
    epochs: Positive = 12
    patience: Positive = 3
    """Epochs without a better log-loss on the validation rows, after which training ends."""
    batch_size: Positive = 256
    learning_rate: Annotated[float, Meta(gt=0)] = 0.01
    """Adam's, of the layers behind the table; falls to nothing over `epochs`."""
    table_rate: Annotated[float, Meta(gt=0)] = 80
    """SGD's, of the table, for each text of a batch; falls likewise."""
    views: dict[ViewName, Share] = {}
    """View → share of the rows that are read in it, drawn anew each epoch. Empty: every row whole."""
    excerpts: bool = False
    """Whether teachers also label openings of the training articles, as long as headlines, and what is left of them."""
    unlabelled: Source | None = None
    """More texts for teachers to label; what label stands there is not read."""


class Linear(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The terms that a member of kind "linear" weighs by TF-IDF, and how it is fitted, by scikit-learn."""

    blocks: Annotated[tuple[Features, ...], Meta(min_length=1)] = (
        Features(buckets=1 << 20, words=(1, 2)),
        Features(buckets=1 << 20, words=(), parts=(3, 4, 5)),
    )
    """N-grams of a block are scaled to length 1 together: words and pairs of words, and character n-grams."""
    solver: Literal["svm", "logistic"] = "svm"
    """A linear support vector machine, each label against the rest, or a logistic regression."""
    cost: Annotated[float, Meta(gt=0)] = 1.0
    """scikit-learn's C: the larger, the nearer to the training rows."""
    min_count: Positive = 1
    """In how many training rows a term must stand."""
    max_terms: Positive = 400_000
    """The most terms; where more stand in rows enough, those that stand in most."""
    max_numbers: Positive = 16_000_000
    """The largest size of the table, a number a term and label: 64 MB."""

    def terms(self, labels: int) -> int:
        """Return the most terms of a member of so many labels."""
        return max(min(self.max_terms, self.max_numbers // labels), 2)


class Frozen(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """How a linear layer is fitted on an encoder that stays as it was pretrained: a logistic regression."""

    costs: Annotated[tuple[Annotated[float, Meta(gt=0)], ...], Meta(min_length=1)] = (
        0.01,
        0.03,
        0.1,
        0.3,
        1.0,
        3.0,
        10.0,
    )
    """scikit-learn's C: the smallest is taken whose log-loss in a cross-validation, of calibrated probabilities, is
    within one standard error of the least."""


class Contrastive(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """How an encoder is fine-tuned on few rows before the linear layer is fitted (`training.contrastive`)."""

    max_rows: Positive = 5000
    """With more training rows it is not tried: an epoch would take minutes."""
    steps: Positive = 40
    """The fewest; more where the rows fill more batches in `epochs`."""
    epochs: Annotated[float, Meta(gt=0)] = 3
    batch_size: Annotated[int, Meta(ge=4)] = 32
    learning_rate: Annotated[float, Meta(gt=0)] = 5e-5
    max_length: Annotated[int, Meta(ge=8)] = 96
    """Tokens of a text that are read while the encoder is fine-tuned, at most."""
    cost: Annotated[float, Meta(gt=0)] = 0.3
    """scikit-learn's C of the layer: on tuned states, a layer that is held back more was wrong more often."""
    interpolate: Annotated[float, Meta(gt=0, le=1)] = 0.7
    """How far from the pretrained to the tuned weights (WiSE-FT: Wortsman et al. 2022, "Robust fine-tuning of zero-shot
    models"): long texts lose by all of the way, and questions win little by the last part of it."""
    folds: Annotated[int, Meta(ge=2)] = 3
    """Parts of the training rows without each of which the encoder is fine-tuned once, to be compared."""

    def steps_of(self, rows: int) -> int:
        """Return the steps of a fit of so many rows."""
        return max(self.steps, math.ceil(self.epochs * rows / self.batch_size))


class _Common(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """The fields of a member of any kind."""

    name: Name
    seed: int | None = None
    """Seeds the member's training; without it the recipe's seed does."""
    distil: Distil | None = None
    balanced: bool = False
    """Whether every label weighs alike, however few its rows. If it does in one member, it does in the answers."""
    least_rows: Annotated[int, Meta(ge=0)] = 0
    """With fewer training rows the member is left out, where others are left (`split.folds`)."""
    calibration_folds: Annotated[int, Meta(ge=0)] = 0
    """Parts of the training rows without each of which the member is fitted once more. The probabilities that it then
    gives that part calibrate the member and, if it is the cheapest, its answers alone, beside the validation rows. 0:
    without."""

    def __post_init__(self) -> None:
        if self.calibration_folds == 1:
            raise ValueError(f"member {self.name}: calibration_folds is 1, which leaves no rows to fit on")


class EncoderMember(_Common, frozen=True, tag="encoder"):
    """A pretrained encoder with a linear layer, fine-tuned."""

    kind: ClassVar[Literal["encoder"]] = "encoder"
    fitting: ClassVar[str] = "train"
    """The field that says how the member is fitted."""
    base: Annotated[str, Meta(min_length=1)]
    """The pretrained encoder: a hub name or a local directory."""
    max_length: Annotated[int, Meta(ge=8, le=8192)] = 128
    """Tokens of a training row that are read, at most. If next to no row is as long, the server reads shorter windows
    (`training.trainer.window`)."""
    pooling: Literal["own", "mean", "unit", "first"] = "own"
    """The layer between the encoder and the linear layer: the family's own head, or a pooling of the tokens. "unit" is
    the mean, scaled to length 1."""
    min_piece_count: Annotated[int, Meta(ge=0)] = 0
    """Pieces of the vocabulary that the training rows hold fewer times are dropped before it is fitted; 0 keeps all."""
    pretrain: Pretrain | None = None
    train: Train = Train()
    frozen: Frozen | None = None
    """The encoder stays as it is, and only the linear layer is fitted; `train` is not read."""
    contrastive: Contrastive | None = None
    """The encoder is fine-tuned before, unless rows that a fit did not see are then said worse (`split.folds`)."""
    optional: bool = False
    """Whether the member is left out where its base cannot be had, and the build goes on without it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frozen and self.pooling == "own":
            raise ValueError(f'member {self.name}: a frozen encoder has no head of its own; set pooling = "unit"')
        if self.frozen and (self.train != Train() or self.pretrain or self.distil or self.min_piece_count):
            raise ValueError(
                f"member {self.name}: `frozen` fits the linear layer alone, without `train`, `pretrain`, `distil` and "
                "`min_piece_count`; remove them, or `frozen`"
            )
        if self.contrastive and not self.frozen:
            raise ValueError(
                f"member {self.name}: `contrastive` is followed by the fit of the linear layer alone; add `frozen`"
            )

    def tries_contrastive(self, rows: int) -> bool:
        """Return whether the encoder is fine-tuned on so many rows, to be compared with itself as it was pretrained."""
        return self.contrastive is not None and rows <= self.contrastive.max_rows

    @property
    def views(self) -> dict[ViewName, Share]:
        """The views that training rows are read in."""
        return self.train.views


class NgramMember(_Common, frozen=True, tag="ngrams"):
    """A bag of hashed n-grams, fitted from zero."""

    kind: ClassVar[Literal["ngrams"]] = "ngrams"
    fitting: ClassVar[str] = "student"
    student: Student = Student()

    @property
    def views(self) -> dict[ViewName, Share]:
        """The views that training rows are read in."""
        return self.student.views


class LinearMember(_Common, frozen=True, tag="linear"):
    """TF-IDF of hashed words, pairs of words and character n-grams, and a linear classifier: a convex fit."""

    kind: ClassVar[Literal["linear"]] = "linear"
    fitting: ClassVar[str] = "linear"
    linear: Linear = Linear()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distil:
            raise ValueError(f"member {self.name}: a linear member learns from labels alone; remove `distil`")

    @property
    def views(self) -> dict[ViewName, Share]:
        """The views that training rows are read in: whole alone."""
        return {}


Member = EncoderMember | NgramMember | LinearMember
"""A member of the recipe; in a file `kind` says which, and without it the member is an encoder."""
DEFAULT_KIND = "encoder"


class Teaching(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Encoders that are fitted to teach alone, and don't serve.

    Each is fitted once for every fold, without that part of the training rows, and then labels it: what somebody has
    learned by heart teaches nothing but the label (cross-fitting; Dao et al. 2021, "Knowledge distillation as
    semiparametric inference").
    """

    teachers: Annotated[list[Member], Meta(min_length=1)]
    folds: Annotated[int, Meta(ge=2)] = 4

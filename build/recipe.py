"""The typed recipe: the whole configuration of a build, in one file that the build can be repeated from."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from newsdesk.build import local, trees
from newsdesk.build.errors import RecipeError
from newsdesk.server.runtime.ngrams import Features

RECIPES = Path(__file__).parent / "recipes"

Positive = Annotated[int, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Alpha = Annotated[float, Meta(ge=-1, le=1)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
# column → values; a row matches when, in every column named, its cell holds one of them. A cell may hold several, with
# "|" between.
Where = dict[str, list[str]]
# Names of `newsdesk.build.data.views`.
ViewName = Literal[
    "whole",
    "headline",
    "description",
    "first sentence",
    "run of words",
    "typing errors",
    "case noise",
    "look-alikes",
    "sources stripped",
]
SliceName = ViewName | Literal["joined"]
Share = Annotated[float, Meta(ge=0)]
# Each in the order of how much it can bend: the first of those that are as good is taken.
CombinerName = Literal["mean", "bayes", "weighted", "blend", "by_length", "ranks", "logistic", "catboost", "xgboost"]
CalibratorName = Literal["none", "temperature", "temperature_by_length", "vector", "platt", "isotonic"]
UnsureScore = Literal["entropy", "uncertainty", "top"]


class Source(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where rows come from: a data set on the Hugging Face hub, or a CSV, JSONL or Parquet file (plain or .gz)."""

    hub: str = ""
    split: str = ""
    file: str = ""
    columns: list[str] = []
    """Names for the columns of a CSV file that has no header line."""
    text_columns: tuple[str, ...] = ("text",)
    """Joined with a space, in this order; empty cells are passed over."""
    whole_text_column: str = ""
    """Where this column is not empty it is the article, and `text_columns` are not read."""
    label_column: str = "label"
    """Empty where there is none, as in texts that only teachers label."""
    first_label: int = 0
    """The number that means the first of the recipe's labels; names are understood as well. -1: names alone."""
    keep: Where = {}
    words: Annotated[int, Meta(ge=0)] = 0
    """So many words of each text, from its beginning, in `outside` and `strangers`; 0 means all."""
    labels: dict[str, str] = {}
    """Raw label → label of the recipe's, for rows of another origin; rows with any other label are passed over."""

    def __post_init__(self) -> None:
        if bool(self.hub) == bool(self.file):
            raise ValueError("a source is either `hub` or `file`, and one of them")


class Local(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Files below a data folder, which are read instead of the hub where that folder is named (see `local`)."""

    train: Source
    test: Source | None = None
    outside: dict[str, Source] = {}
    strangers: dict[str, Source] = {}
    validation_where: Where = {}


class Data(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    train: Source
    test: Source | None = None
    local: Local | None = None
    outside: dict[str, Source] = {}
    """Rows of other origins, by name, whose labels are the recipe's or are mapped to them: the report looks at each
    beside the test rows."""
    strangers: dict[str, Source] = {}
    """Texts that no label fits, by name: the report tells how well the model's uncertainty finds them."""


class Split(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    validation_rows: Positive = 5000
    train_rows: Annotated[int, Meta(ge=0)] = 0
    """How many rows are left to learn from, drawn by content as the validation rows are, and those stay the same; 0
    means all."""
    validation_where: Where = {}
    """Which training rows may become validation rows; empty means all."""
    slices: dict[SliceName, Share] = {}
    """The mixture on which everything is chosen: view → share of the validation rows that are seen in it. Empty: every
    row whole, once. "joined" makes long texts of several articles of a label."""


# Defaults are left out of what is recorded, so that a new field does not make an old training a new one.
class Train(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """How an encoder is fitted; `newsdesk.build.training.fitting` says where each method comes from."""

    epochs: Annotated[float, Meta(gt=0)] = 3
    batch_size: Positive = 32
    learning_rate: Annotated[float, Meta(gt=0)] = 5e-5
    schedule: str = "linear"
    """linear, cosine, polynomial, constant, … (transformers' SchedulerType)."""
    layer_decay: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Share of the learning rate that each layer has of the one above it."""
    warmup_ratio: Fraction = 0.06
    weight_decay: Annotated[float, Meta(ge=0)] = 0.01
    label_smoothing: Fraction = 0.0
    r_drop: Annotated[float, Meta(ge=0)] = 0.0
    """Weight of R-Drop's term; 0 turns it off, and saves its second pass."""
    fgm: Annotated[float, Meta(ge=0)] = 0.0
    """Norm of the adversarial step on the word embeddings; 0 turns it off, and saves its second pass."""
    snapshots: Annotated[int, Meta(ge=0, le=20)] = 0
    """Cycles of the learning rate, each of which leaves a member of its own; 0 is an ordinary run."""
    frozen_layers: Annotated[int, Meta(ge=0)] = 0
    """How many of the lowest layers, and with them the embeddings, stay as they were pretrained: nothing is propagated
    back through them, which makes a step of a large encoder that much cheaper."""
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


class Pretrain(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Go on pretraining on the training rows' texts, without their labels, before an encoder is fitted (task-adaptive
    pretraining: Gururangan et al. 2020, "Don't Stop Pretraining"). `newsdesk.build.training.pretraining` says how."""

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
    """What a member of kind "ngrams" reads, and how it is fitted."""

    features: Features = Features()
    min_count: Positive = 2
    """How often an n-gram must stand in the training rows to have a row in the table."""
    max_ngrams: Positive = 240_000
    """The most rows; where more n-grams are met often enough, the most frequent."""
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
    pieces: bool = False
    """Whether teachers also label openings of the training articles, as long as headlines, and what is left of them."""
    unlabelled: Source | None = None
    """More texts for teachers to label; what label stands there is not read."""


class Member(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One classifier and how it is fitted: a pretrained encoder, or a bag of hashed n-grams that starts from zero."""

    name: Name
    kind: Literal["encoder", "ngrams"] = "encoder"
    base: str = ""
    """The pretrained encoder: a hub name or a local directory."""
    max_length: Annotated[int, Meta(ge=8, le=8192)] = 128
    """Tokens of a training row that are read, at most. Where next to none is as long, what serves reads shorter windows
    (`training.trainer.window`)."""
    pooling: Literal["own", "mean", "first"] = "own"
    """What stands between the encoder and the linear layer: the family's own head, or a pooling of the tokens."""
    min_piece_count: Annotated[int, Meta(ge=0)] = 0
    """Pieces of the vocabulary that the training rows hold fewer times are dropped before it is fitted; 0 keeps all."""
    seed: int | None = None
    """Of its training; the recipe's without."""
    pretrain: Pretrain | None = None
    train: Train = Train()
    student: Student = Student()
    distil: Distil | None = None
    calibration_folds: Annotated[int, Meta(ge=0)] = 0
    """Parts of the training rows without each of which the member is fitted once more. What it then says of that part
    calibrates the member and, if it is the cheapest, its answers alone, beside the validation rows. 0: without."""

    def __post_init__(self) -> None:
        if self.calibration_folds == 1:
            raise ValueError(f"member {self.name}: calibration_folds is 1, which leaves no rows to fit on")
        if self.kind == "encoder":
            if not self.base:
                raise ValueError(f"member {self.name}: an encoder needs `base`, a hub name or a folder")
            if self.student != Student():
                raise ValueError(f'member {self.name}: `student` is read of n-grams; set kind = "ngrams", or remove it')
        elif self.base or self.pretrain or self.train != Train():
            raise ValueError(
                f"member {self.name}: n-grams have no `base`, `pretrain` or `train`; `student` says how to fit them"
            )


class Teaching(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Encoders that are fitted to teach alone, and don't serve.

    Each is fitted once for every fold, without that part of the training rows, and then labels it: what somebody has
    learned by heart teaches nothing but the label (cross-fitting; Dao et al. 2021, "Knowledge distillation as
    semiparametric inference").
    """

    teachers: Annotated[list[Member], Meta(min_length=1)]
    folds: Annotated[int, Meta(ge=2)] = 4


Variant = Literal["fp32", "fp16", "int8", "int8-fp16", "int8-dynamic", "fp8"]


class Quantise(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    variants: tuple[Variant, ...] = ("fp16", "int8", "int8-dynamic")
    """What is made beside fp32. For GPUs: "int8-fp16" (made from int8; fp16 where that has fp32) and "fp8" (Ada, Hopper
    and later)."""
    calibration_rows: Positive = 300
    """Drawn from the training rows, at their own lengths."""
    smooth_quant_alphas: Annotated[tuple[Alpha, ...], Meta(min_length=1)] = (0.95, 0.8)
    """NNCF's SmoothQuant: how much of the activations' range moves into the weights; -1 turns it off. Tried in this
    order until one passes the gate."""
    max_float_products: Annotated[int, Meta(ge=0)] = 8
    """Where none passes: how many matrix products, the most sensitive first, may read float activations."""
    max_accuracy_loss: Fraction = 0.001
    """Against the fp32 graph on the validation rows."""
    min_agreement: Fraction = 0.995


class Compile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the targets are measured on this machine."""

    rows: Positive = 256
    """Validation rows, at their own lengths."""
    batch: Positive = 32
    """Rows that arrive together."""
    rounds: Positive = 3
    """The targets take turns; a target's best round counts."""
    max_company_difference: Fraction = 0.01
    """How much a text's neighbours may change a probability. Activations that are quantised as they come share a scale
    with the batch, and then an answer depends on who else asked."""


class Engines(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """TensorRT engines, built of the variants that pass."""

    runtimes: tuple[Literal["tensorrt", "tensorrt_rtx"], ...] = ()
    """tensorrt needs the GPU that it builds for; tensorrt_rtx builds ahead of time, on any machine. Empty: none."""
    variants: tuple[Variant, ...] = ("fp16", "int8-fp16", "fp8")
    """Of those that `quantise.variants` makes."""
    batches: tuple[Positive, ...] = (1, 8, 32, 128)
    """Where the buckets of batches end."""
    buckets: Positive = 6
    """Of lengths, placed by those of the training rows."""
    workspace_mib: Positive = 2048
    optimization_level: Annotated[int, Meta(ge=0, le=5)] = 3
    version_compatible: bool = False
    """Run on later versions of TensorRT, too; slower."""
    hardware: Literal["same", "same-capability", "ampere-plus"] = "same"
    """tensorrt: on which GPUs the engine runs beside the one that it was built on."""
    compute_capabilities: tuple[str, ...] = ("8.9", "12.0")
    """tensorrt_rtx: GPUs that the engine is built for, "8.6" and so on. fp8 needs 8.9 or later."""

    def __post_init__(self) -> None:
        if not self.batches or list(self.batches) != sorted(set(self.batches)):
            raise ValueError(f"engines.batches {self.batches}: expected ascending sizes, such as 1, 8, 32, 128")


class Verify(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Largest differences of a probability from the original's, by the artefact's precision."""

    rows: Positive = 200
    float_tolerance: Annotated[float, Meta(gt=0)] = 1e-3
    half_tolerance: Annotated[float, Meta(gt=0)] = 0.02
    int8_tolerance: Annotated[float, Meta(gt=0)] = 0.1
    """Of the real rows all but `int8_outliers` must keep to it. A row on the border between two labels may swing wide
    in int8 and still be as right as before, so one limit for all of them would be so wide that it finds nothing."""
    int8_outliers: Fraction = 0.02
    int8_min_agreement: Fraction = 0.98
    int8_extreme_tolerance: Annotated[float, Meta(gt=0)] = 0.3
    """For texts that are no articles."""


class Ensemble(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How members are combined, calibrated and asked one after the other, fitted on validation rows.

    What a member says of rows that it left out calibrates it, too: see `Member.calibration_folds`.

    The snapshots of one training run are members like any.
    """

    combiners: Annotated[tuple[CombinerName, ...], Meta(min_length=1)] = get_args(CombinerName)
    """What is tried for each stage of more than one member: "mean" is soft voting, "bayes" Bayesian model averaging,
    "weighted" weights that minimise the log-loss, "blend" the same fitted on one part of the rows and calibrated on the
    other, "by_length" weights for each bucket of the texts' lengths, "ranks" rank averaging, and the rest models over
    what the members say. Where lengths are unknown, what goes by length is passed over."""
    calibrators: Annotated[tuple[CalibratorName, ...], Meta(min_length=1)] = get_args(CalibratorName)
    folds: Annotated[int, Meta(ge=2)] = 5
    """Of the cross-validation that chooses: the simplest whose log-loss is within one standard error of the best."""
    blend_share: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    """Of the rows that "blend" is fitted on weights; its calibrator gets the others."""
    bayes_rows: Annotated[float, Meta(gt=0)] = 20
    """What the validation rows weigh in "bayes", at most: the full likelihood of thousands trusts one member alone."""
    epsilon: Annotated[float, Meta(gt=0, le=1)] = 0.001
    """Accuracy that "balanced" may lose on "best"."""
    confidence: Annotated[float, Meta(ge=0.5, lt=1)] = 0.8
    """With which it loses no more, over the draw of the validation rows. At 0.95, 5000 rows allow about half of the
    loss that they allow at 0.8."""
    slice_epsilon: Annotated[float, Meta(gt=0, le=1)] = 0.003
    """Accuracy that "balanced" may lose on "best" on each slice of the validation rows that has enough of them."""
    unsure_share: Annotated[float, Meta(ge=0, le=0.2)] = 0.02
    """Of the validation rows that "unsure" marks; serving may choose another (`newsdesk serve --unsure-share`)."""
    unsure_score: UnsureScore = "entropy"
    """What it marks them by: the entropy of the answer, the total uncertainty of the members asked, or 1 less the top
    probability."""


class Repository(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The Triton model that is written."""

    model: Name = "ag_news"
    variants: list[Variant] = []
    """Graphs to put in, if they pass; the target is the fastest that reads one of them. Empty: the fastest's alone."""
    max_batch_size: Positive = 64
    max_queue_size: Positive = 4096
    """Requests that may wait; Triton refuses what comes on top."""


class Card(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the model card says and no measurement can."""

    title: str = ""
    data: str = ""
    terms: str = ""


class Recipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: Name
    labels: list[str] = []
    """In the order of the outputs. Empty: the distinct labels of the training rows, sorted."""
    data: Data
    members: Annotated[list[Member], Meta(min_length=1)]
    teaching: Teaching | None = None
    seed: int = 17
    split: Split = Split()
    quantise: Quantise = Quantise()
    engines: Engines = Engines()
    compile: Compile = Compile()
    verify: Verify = Verify()
    ensemble: Ensemble = Ensemble()
    repository: Repository = Repository()
    card: Card = Card()

    def __post_init__(self) -> None:
        names = [member.name for member in self.members]
        for place, member in enumerate(self.members):
            for teacher in member.distil.teachers if member.distil else ():
                if teacher not in names or teacher == member.name:
                    others = [*names[:place], *names[place + 1 :]]
                    raise ValueError(
                        f"member {member.name} has the teacher {teacher!r}; expected another member of this recipe "
                        f"({', '.join(others) or 'there is none'})"
                    )
            if (member.student.pieces or member.student.unlabelled) and not (
                member.distil and (self.teaching or self.teachers(member))
            ):
                raise ValueError(
                    f"member {member.name}: nobody labels the pieces or unlabelled texts; name teachers in `distil`, "
                    "or remove them"
                )

    def teachers(self, member: Member) -> list[Name]:
        """Return the members that teach one; none where it learns from labels alone, or from `teaching`."""
        if member.distil is None or member.distil.teachers or self.teaching:
            return member.distil.teachers if member.distil else []
        names = [other.name for other in self.members]
        return names[names.index(member.name) + 1 :]


def load(name_or_path: str, changes: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe of ours by name, or any by path; `changes` are dotted keys ("members.minilm.base") to values.

    Files of the folders that NEWSDESK_DATA and NEWSDESK_BASES name stand in for the hub (see `local.resolved`).

    A file that says `extends = "compact"` is read on top of that recipe: tables are merged, lists are continued.
    Raises RecipeError with the place of what is wrong.
    """
    path = _path(name_or_path)
    tree = _read(path)
    for key, value in (changes or {}).items():
        try:
            trees.change(tree, key.split("."), value)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise RecipeError(f"recipe {path.name}: nothing stands at {key!r}, so it cannot be set") from error
    try:
        return local.resolved(msgspec.convert(tree, Recipe), set(changes or {}))
    except msgspec.ValidationError as error:
        raise RecipeError(f"recipe {path.name}: {error}") from error


def _path(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise RecipeError(f"no recipe {name_or_path!r}: give the path of a .toml file, or one of: {known}")
    return path


def _read(path: Path) -> dict[str, Any]:
    import tomllib  # novm: Python 3.11's. A device with 3.10 takes its engines' settings from here, and reads no recipe

    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {path.name}: {error}") from error
    below = tree.pop("extends", "")
    return trees.merged(_read(_path(below)), tree) if below else tree

"""The recipe's data: sources of rows, and how the rows are split."""

from typing import Annotated

from msgspec import Meta, Struct

from newsdesk.build.recipe.fields import Positive, Share, SliceName, Where


class Source(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A source of rows: a data set on the Hugging Face hub, or a CSV, JSONL or Parquet file (plain or .gz)."""

    hub: str = ""
    split: str = ""
    file: str = ""
    columns: list[str] = []
    """Names for the columns of a CSV file that has no header line."""
    text_columns: tuple[str, ...] = ("text",)
    """Joined with a space, in this order; empty cells are passed over."""
    whole_text_column: str = ""
    """The column of whole articles: where it is not empty, `text_columns` are not read."""
    label_column: str = "label"
    """Empty where there is none, as in texts that only teachers label."""
    soft_columns: dict[str, str] = {}
    """Label → column of its probability, from whoever labelled the rows. The likeliest is the row's label, and no label
    column is read."""
    first_label: int = 0
    """The number that means the first of the recipe's labels; names are understood as well. -1: names alone."""
    keep: Where = {}
    weight: Annotated[float, Meta(gt=0)] = 1.0
    """How much each of its rows counts in a fit."""
    words: Annotated[int, Meta(ge=0)] = 0
    """So many words of each text, from its beginning, in `outside` and `strangers`; 0 means all."""
    labels: dict[str, str] = {}
    """Raw label → label of the recipe's, for rows of another origin; rows with any other label are passed over."""

    def __post_init__(self) -> None:
        if bool(self.hub) == bool(self.file):
            raise ValueError("a source is either `hub` or `file`, and one of them")
        if len(self.soft_columns) == 1:
            raise ValueError(f"soft_columns is {self.soft_columns}: a column for each label is expected, two at least")


class Local(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Files below a data folder, which are read instead of the hub where that folder is named (see `local`)."""

    train: Source
    test: Source | None = None
    outside: dict[str, Source] = {}
    strangers: dict[str, Source] = {}
    validation_where: Where = {}


class Data(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The rows to learn from, to test on, and to report on."""

    train: Source
    more: list[Source] = []
    """More training rows, of other files. A text that stands in several counts once, where it stands first."""
    test: Source | None = None
    local: Local | None = None
    outside: dict[str, Source] = {}
    """Rows of other origins, by name, whose labels are the recipe's or are mapped to them: the report looks at each
    beside the test rows."""
    strangers: dict[str, Source] = {}
    """Texts that no label fits, by name: the report tells how well the model's uncertainty finds them."""


class Split(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """How the training rows are parted into those to learn from and those to decide by."""

    validation_rows: Positive = 5000
    train_rows: Annotated[int, Meta(ge=0)] = 0
    """How many rows are left to learn from, drawn by content as the validation rows are, and those stay the same; 0
    means all."""
    validation_where: Where = {}
    """The training rows that may become validation rows; empty means all."""
    folds: Annotated[int, Meta(ge=0)] = 0
    """Above 0, no rows are set aside to validate on. Each member is fitted once without each of so many parts of the
    rows. Its out-of-fold answers, to the part that it did not see, choose the members, combine, calibrate and set
    thresholds. The members that serve are fitted on all rows."""
    drop_suspects: Annotated[float, Meta(ge=0, le=0.5)] = 0.0
    """Share of the rows, those whose labels are likeliest to be wrong, that the members that serve are fitted without;
    read with `folds`."""
    slices: dict[SliceName, Share] = {}
    """The mixture on which everything is chosen: view → share of the validation rows that are seen in it. Empty: every
    row whole, once. "joined" makes long texts of several articles of a label."""

    def __post_init__(self) -> None:
        if self.folds == 1:
            raise ValueError("split.folds is 1, which leaves no rows to fit on; give 2 or more, or 0 for none")

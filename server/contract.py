"""The contract of the served model: its tensors, its qualities and the sizes of what it takes.

The server, its clients, the build and the benchmarks read it. It imports the standard library alone, so that a client
stays light.
"""

from typing import Final, Literal, NamedTuple, get_args

Datatype = Literal["BYTES", "FP32", "INT32", "BOOL"]
"""A tensor's element, as the Open Inference Protocol names it."""
Dimension = int | Literal["labels", "members"]
"""A size; of a model's own ones, its name."""


class TensorSpec(NamedTuple):
    """A tensor of the model.

    Attributes:
        name: as it stands in a request or an answer
        datatype: of its elements
        shape: of one text; on the wire the number of texts comes before it
        optional: whether a request may leave it out
    """

    name: str
    datatype: Datatype
    shape: tuple[Dimension, ...] = (1,)
    optional: bool = False

    def sizes(self, labels: int, members: int) -> list[int]:
        """Return the shape of one text for a model of so many labels and members."""
        own = {"labels": labels, "members": members}
        return [own[size] if isinstance(size, str) else size for size in self.shape]


TEXT: Final = "TEXT"
"""The article, UTF-8."""
QUALITY: Final = "QUALITY"
"""One of QUALITIES. Triton makes no batch of requests that have it and requests that do not."""
INPUTS: Final = (TensorSpec(TEXT, "BYTES"), TensorSpec(QUALITY, "BYTES", optional=True))

LABEL: Final = "LABEL"
"""The most probable label."""
PROBABILITIES: Final = "PROBABILITIES"
"""A probability of each label, in the order of the model's labels."""
ANSWERED_BY: Final = "ANSWERED_BY"
"""The members of the level that answered, joined by +."""
WINDOWS: Final = "WINDOWS"
"""In how many windows the member that reads the most of them read the text."""
MEMBER_PROBABILITIES: Final = "MEMBER_PROBABILITIES"
"""Each member's own probabilities; -1 for a member that was not asked."""
UNCERTAINTY: Final = "UNCERTAINTY"
"""In nats: the total, the data's share and the model's share."""
UNSURE: Final = "UNSURE"
"""Whether the answer is marked as not sure. Only a model that says so has it."""
OUTPUTS: Final = (
    TensorSpec(LABEL, "BYTES"),
    TensorSpec(PROBABILITIES, "FP32", ("labels",)),
    TensorSpec(ANSWERED_BY, "BYTES"),
    TensorSpec(WINDOWS, "INT32"),
    TensorSpec(MEMBER_PROBABILITIES, "FP32", ("members", "labels")),
    TensorSpec(UNCERTAINTY, "FP32", (3,)),
    TensorSpec(UNSURE, "BOOL"),
)

STANDARD_OUTPUTS: Final = (LABEL, PROBABILITIES, ANSWERED_BY, WINDOWS)
"""The outputs of every model that make up an answer."""

CANDIDATE: Final = "@"
"""Between a model's name and a version's number: the name that a version which is tried is served by."""
VERSIONS: Final = "versions"
"""A parameter of an answer to texts that different versions answered: the version of each, joined by commas."""

Quality = Literal["fast", "balanced", "best"]
"""How sure a level of the cascade must be before it answers."""
QUALITIES: Final[tuple[Quality, ...]] = get_args(Quality)
DEFAULT_QUALITY: Final[Quality] = "balanced"

PROBE: Final = "Wall Street bears claw back into the black"
"""The text of newsdesk's own requests, by which it sees whether a model answers."""
LABELS_PROBE: Final = "Which labels are there?"
"""The text that a client is answered with every label, to learn which there are."""
OWN_TEXTS: Final = frozenset({PROBE, LABELS_PROBE})
"""Nobody's texts, and none that say what a model is asked."""

MAX_TEXT_BYTES: Final = 256 * 1024
"""Bytes of one text in UTF-8."""
MAX_BATCH: Final = 64
"""Texts of one request to the model, and of one batch, unless a recipe says otherwise."""

CORRECTED_AT: Final = "corrected_at"
"""The column of callers' corrections that says when each was made, ISO 8601 in UTC: of one text the last one counts."""

"""The answer to one text."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Prediction:
    """The service's answer to one text.

    Attributes:
        index: position of the text in what was given to `classify` or `stream`
        label: the most probable label
        probabilities: label → probability in [0, 1], most probable first; all labels, or the first `top_k`
        answered_by: the level that answered: its members' names, joined by "+"
        windows: how many overlapping windows of the text were read; 1 unless it is long
        members: member → label → probability, of the members that were asked; None unless wanted
        unsure: whether the text is unlike those that the model was fitted for, or undecided: its label may mean
            nothing; None where the server does not say
        uncertainty: in nats: in all, of the data (more members would not help), of the model (how far the members that
            were asked disagree); None unless wanted, and where the server does not say
        version: the number of the model's version that answered; "" where the server does not say
    """

    index: int
    label: str
    probabilities: dict[str, float]
    answered_by: str
    windows: int = 1
    members: dict[str, dict[str, float]] | None = None
    unsure: bool | None = None
    uncertainty: tuple[float, float, float] | None = None
    version: str = ""

    @property
    def probability(self) -> float:
        """The probability of `label`."""
        return self.probabilities[self.label]

    def as_object(self) -> dict[str, Any]:
        """Return it as an object of JSON, without what the server does not say."""
        fields = asdict(self)
        for name in "members", "unsure", "uncertainty", "version":
            if fields[name] in (None, ""):
                del fields[name]
        if self.uncertainty is not None:
            fields["uncertainty"] = dict(zip(("total", "data", "model"), self.uncertainty, strict=True))
        return fields

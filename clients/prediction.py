"""The answer to one text."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the service says about one text.

    index          position of the text in what was given to `classify` or `stream`
    label          the most probable label
    probabilities  label → probability in [0, 1], most probable first; all labels, or the first `top_k`
    answered_by    the member, or the combination of members, that answered
    """

    index: int
    label: str
    probabilities: dict[str, float]
    answered_by: str

    @property
    def probability(self) -> float:
        """The probability of `label`."""
        return self.probabilities[self.label]

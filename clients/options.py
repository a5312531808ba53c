"""The options of a call: what its caller wants of the answers."""

from dataclasses import dataclass, field
from typing import TypedDict

from newsdesk.server.contract import DEFAULT_QUALITY, QUALITIES, Quality


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one call; `Client.classify` says what each means.

    Raises:
        ValueError: a value cannot be used.
    """

    top_k: int | None = None
    quality: Quality | None = None
    members: bool = False
    uncertainty: bool = False
    model: str = field(default="", kw_only=True)
    """The server's model that answers; "" = the client's, or the only one."""

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}, expected at least 1, or None for all labels")
        if self.quality is not None and self.quality not in QUALITIES:
            expected = ", ".join(QUALITIES)
            raise ValueError(f"quality is {self.quality!r}, expected one of {expected}, or None for {DEFAULT_QUALITY}")


class AnswerOptions(TypedDict, total=False):
    """The arguments of a call that say what is wanted of the answers."""

    top_k: int | None
    quality: Quality | None
    members: bool
    uncertainty: bool

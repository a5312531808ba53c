"""A row: a clean article and its label."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A clean article and the index of its label; `eligible` for the validation split.

    `title` begins the text where the source keeps the headline apart, and is empty elsewhere. Validation rows stand for
    a `view` of the row with the number `group` (see `newsdesk.build.data.views`).
    """

    text: str
    label: int
    eligible: bool = True
    title: str = ""
    view: str = "whole"
    group: int = 0
    weight: float = 1.0
    """How much the row counts in a fit."""
    soft: tuple[float, ...] = ()
    """A probability of each label, of sum 1, whose largest is that of `label`; empty where the label is certain."""

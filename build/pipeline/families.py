"""The kinds of members, and the functions that each kind goes through the stages by.

A kind is added by a class of the recipe's (`newsdesk.build.recipe.members`), an entry here, and the functions that it
names.
"""

import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from newsdesk.build.recipe import Member


@dataclass(frozen=True)
class MemberKind:
    """Functions by which a kind of member goes its own way.

    Functions stand by their full names, "package.module:function": a module is imported when its stage runs, and is
    part of that stage's code.
    """

    train: str
    """`train(member, labels, rows, validation, seed, folder, soft_labels) -> metrics`: fit a member, into `folder`."""
    logits: str
    """`logits(fitted, texts, max_length, exact) -> FP32 [texts, labels]`: the fitted member's own, before export."""
    export: str
    """`export(fitted, folder, max_length, texts) -> metrics`: write model.fp32.onnx, the tokenizer and member.json."""
    quantise: str
    """`quantise(bench) -> metrics by variant`: make and judge the other precisions."""
    tokenizer: str
    """The file of the export that makes ids of a text."""
    fitted: str = ""
    """The folder below the fitted artifact's that holds the model; empty: the artifact's own."""
    windowed: bool = False
    """Whether long texts are read in windows; else they are read whole."""
    in_epochs: bool = True
    """Whether it is fitted in epochs, which the validation rows end."""


FAMILIES: dict[str, MemberKind] = {
    "encoder": MemberKind(
        train="newsdesk.build.training.trainer:train",
        logits="newsdesk.build.training.trainer:logits",
        export="newsdesk.build.compile.export:export",
        quantise="newsdesk.build.compile.quantise:quantise",
        tokenizer="tokenizer.json",
        fitted="checkpoint",
        windowed=True,
    ),
    "ngrams": MemberKind(
        train="newsdesk.build.training.student:train",
        logits="newsdesk.build.members.bag:logits",
        export="newsdesk.build.compile.bag:export",
        quantise="newsdesk.build.compile.bag:quantise",
        tokenizer="features.json",
    ),
    "linear": MemberKind(
        train="newsdesk.build.training.linear:train",
        logits="newsdesk.build.members.linear:logits",
        export="newsdesk.build.compile.linear:export",
        quantise="newsdesk.build.compile.linear:quantise",
        tokenizer="terms.json",
        in_epochs=False,
    ),
}


def family(member: Member) -> MemberKind:
    """Return a member's kind."""
    return FAMILIES[member.kind]


def call(function: str, *arguments: Any) -> Any:
    """Import the module of a function by its full name, call it, and return the result."""
    return pkgutil.resolve_name(function)(*arguments)


def modules(functions: Iterable[str]) -> tuple[str, ...]:
    """Return the modules of functions by their full names, each once."""
    return tuple(dict.fromkeys(function.partition(":")[0] for function in functions))

"""The bodies that the REST protocol takes and gives, as OpenAPI describes them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictBool, StrictStr, Tag

from newsdesk.clients import Prediction, Quality, TextRefused
from newsdesk.server.gateway.explain import MOST_SPANS, Explained
from newsdesk.server.gateway.plane import CallOptions
from newsdesk.server.gateway.questions import Item


class Article(BaseModel):
    """Read as one text: the title, a space, the description."""

    model_config = ConfigDict(extra="forbid")

    title: StrictStr
    description: StrictStr = ""

    def joined(self) -> str:
        """Return it as one text."""
        return f"{self.title} {self.description}"


def _kind(value: Any) -> str | None:
    """Choose by type, so that an error is about what was given, and not about everything that it could have been."""
    kinds: tuple[tuple[str, Any], ...] = (("text", str), ("article", (dict, Article)), ("list", list))
    return next((kind for kind, types in kinds if isinstance(value, types)), None)


def _chosen(expected: str) -> Discriminator:
    return Discriminator(_kind, custom_error_type="text", custom_error_message=f"expected {expected}")


TextInput = Annotated[
    Annotated[StrictStr, Tag("text")] | Annotated[Article, Tag("article")],
    _chosen("a text, or an object of title and description"),
]
TextInputOrList = Annotated[
    Annotated[StrictStr, Tag("text")]
    | Annotated[Article, Tag("article")]
    | Annotated[list[TextInput], Field(fail_fast=True), Tag("list")],
    _chosen("a text, an object of title and description, or a list of those"),
]


def as_text(text: str | Article) -> str:
    """Return the text that a model reads."""
    return text if isinstance(text, str) else text.joined()


class ClassifyRequest(BaseModel):
    """Texts, and what is wanted of their answers."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"text": "Wall Street bears claw back into the black", "top_k": 2}]},
    )

    text: Annotated[TextInputOrList, Field(description="One text, or a list of them.")]
    top_k: Annotated[
        int | None, Field(ge=1, le=1000, strict=True, description="Labels of each answer; all without.")
    ] = None
    quality: Annotated[
        Quality | None,
        Field(description="How sure the cheaper members must be before no further one is asked; balanced without."),
    ] = None
    members: Annotated[StrictBool, Field(description="Say what each member that was asked said.")] = False
    uncertainty: Annotated[StrictBool, Field(description="Say how uncertain the answer is.")] = False
    explain: Annotated[
        StrictBool,
        Field(
            description="Say which words mattered: the model is asked again, with the same quality, without each word, "
            f"or, where a text has more than {MOST_SPANS}, each of at most {MOST_SPANS} runs of words."
        ),
    ] = False

    def asked(self) -> CallOptions:
        """Return what is wanted of each text."""
        return CallOptions(self.top_k, self.quality, self.members, self.uncertainty, self.explain)

    def texts(self) -> list[str]:
        """Return the texts, as a model reads them."""
        return [as_text(text) for text in (self.text if isinstance(self.text, list) else [self.text])]


class Word(BaseModel):
    """A word, and what it means for the label."""

    text: Annotated[str, Field(description="A word, or a run of words of a long text.")]
    start: Annotated[int, Field(description="Its place in the text, in Unicode characters.")]
    end: int
    drop: Annotated[
        float, Field(description="What the label's probability loses when it is left out; below 0 where it gains.")
    ]


class Uncertainty(BaseModel):
    """In nats."""

    total: Annotated[float, Field(description="The entropy of the average of the members that were asked.")]
    data: Annotated[float, Field(description="What each of them is unsure of: more members would not help.")]
    model: Annotated[float, Field(description="How far they disagree.")]


class Answer(BaseModel):
    """The answer to a text."""

    index: Annotated[int, Field(description="Position of the text in the request, from 0.")]
    label: str
    probabilities: Annotated[dict[str, float], Field(description="Most probable first; all labels, or the top_k.")]
    answered_by: Annotated[str, Field(description="The member, or combination of members, that answered.")]
    windows: Annotated[int, Field(description="Overlapping windows in which the text was read; 1 for a short one.")]
    members: Annotated[
        dict[str, dict[str, float]] | None,
        Field(description="Of each member that was asked, its own probabilities. With `members`."),
    ] = None
    unsure: Annotated[
        bool | None,
        Field(
            description="Whether the text is unlike those that the model was fitted for, or undecided: the label may "
            "mean nothing. Left out where the model does not say."
        ),
    ] = None
    uncertainty: Annotated[
        Uncertainty | None, Field(description="With `uncertainty`; left out where the model does not say.")
    ] = None
    words: Annotated[list[Word] | None, Field(description="The words, in their order. With `explain`.")] = None
    version: Annotated[str | None, Field(description="The number of the model's version that answered.")] = None


class Refusal(BaseModel):
    """A text that cannot be read."""

    index: int
    error: Annotated[str, Field(description="What is wrong with this text, and what to do. The others are answered.")]


class ClassifyResponse(BaseModel):
    """The answers."""

    items: Annotated[list[Answer | Refusal], Field(description="One for each text, in the request's order.")]


class Labels(BaseModel):
    """A model's labels."""

    labels: Annotated[list[str], Field(description="In the order of the model's PROBABILITIES.")]


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str


def shown(item: Item) -> dict[str, Any]:
    """Return an item as an Answer or a Refusal."""
    if isinstance(item, TextRefused):
        return {"index": item.index, "error": item.reason}
    assert isinstance(item, Prediction)
    answer: dict[str, Any] = {
        "index": item.index,
        "label": item.label,
        "probabilities": item.probabilities,
        "answered_by": item.answered_by,
        "windows": item.windows,
    }
    if item.version:
        answer["version"] = item.version
    if item.unsure is not None:
        answer["unsure"] = item.unsure
    if item.members is not None:
        answer["members"] = item.members
    if item.uncertainty is not None:
        answer["uncertainty"] = dict(zip(Uncertainty.model_fields, item.uncertainty, strict=True))
    if isinstance(item, Explained):
        answer["words"] = item.words
    return answer


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's description of the problems that a route may answer with."""
    media = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {status: {"description": "Problem details", "content": media} for status in statuses}

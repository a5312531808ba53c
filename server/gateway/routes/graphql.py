"""GraphQL over the same data plane, for those who want to say which fields they need."""

from collections import Counter
from dataclasses import asdict
from enum import Enum
from typing import Any

import msgspec
import strawberry
from fastapi import Depends
from graphql import GraphQLError, GraphQLSyntaxError, Lexer, Source, TokenKind
from starlette.requests import HTTPConnection, Request
from strawberry.extensions import MaxAliasesLimiter
from strawberry.fastapi import GraphQLRouter
from strawberry.scalars import JSON

from newsdesk.clients import NewsdeskError, TextRefused
from newsdesk.server.contract import QUALITIES
from newsdesk.server.gateway import models as served
from newsdesk.server.gateway.auth import only
from newsdesk.server.gateway.explain import Explained
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.plane import CallOptions
from newsdesk.server.gateway.problems import Invalid, Malformed, Problem, TooLarge, problem_of
from newsdesk.server.gateway.questions import Item
from newsdesk.server.gateway.routes import about
from newsdesk.server.gateway.routes.bodies import json_bytes

_MOST_ALIASES = 4
_MOST: dict[TokenKind | None, tuple[int, str]] = {
    None: (10_000, "tokens"),
    TokenKind.NAME: (400, "names"),
    TokenKind.SPREAD: (16, "uses of fragments"),  # thirty of them, nested, are a billion fields
}
_DEPTH = 32
_OPEN = TokenKind.BRACE_L, TokenKind.BRACKET_L, TokenKind.PAREN_L
_CLOSE = TokenKind.BRACE_R, TokenKind.BRACKET_R, TokenKind.PAREN_R


@strawberry.type
class Score:
    """A label and its probability."""

    label: str
    probability: float


@strawberry.type
class Member:
    """A member's own probabilities."""

    name: str
    probabilities: list[Score]


@strawberry.type(description="A word, or a run of words of a long text, and what the label loses without it.")
class Word:
    """A word, or a run of words of a long text, and what the label loses without it."""

    text: str
    start: int
    end: int
    drop: float


@strawberry.enum
class Quality(Enum):
    """How sure the cheaper members must be."""

    fast, balanced, best = QUALITIES


@strawberry.type(description="In nats: in all, of the data, of the model.")
class Uncertainty:
    """The uncertainty of an answer, in nats."""

    total: float
    data: float
    model: float


@strawberry.type(description="Either a label with probabilities, or an error.")
class Answer:
    """Either a label with probabilities, or an error."""

    index: int
    label: str | None = None
    probabilities: list[Score] = strawberry.field(default_factory=list)
    answered_by: str | None = None
    windows: int | None = None
    members: list[Member] | None = None
    unsure: bool | None = None
    uncertainty: Uncertainty | None = None
    words: list[Word] | None = None
    version: str | None = None
    error: str | None = None


@strawberry.type
class Query:
    """The queries."""

    @strawberry.field(description="The texts' labels, in their order; by the default model where none is named.")
    async def classify(
        self,
        info: strawberry.Info,
        texts: list[str],
        top_k: int | None = None,
        quality: Quality | None = None,
        members: bool = False,
        explain: bool = False,
        uncertainty: bool = False,
        model: str = "",
    ) -> list[Answer]:
        """Return the answers to texts, in their order."""
        request: Request = info.context["request"]
        if top_k is not None and top_k < 1:
            raise _error(Invalid(f"topK is {top_k}, expected at least 1."))
        try:
            asked = CallOptions(top_k, quality and quality.value, members, uncertainty, explain)
            return [_answer(item) for item in await served.of(request, model).plane.classify(texts, asked)]
        except (NewsdeskError, Problem) as error:
            raise _error(error) from error

    @strawberry.field(description="A model's labels.")
    async def labels(self, info: strawberry.Info, model: str = "") -> list[str]:
        """Return a model's labels."""
        try:
            return list(await served.of(info.context["request"], model).plane.labels())
        except (NewsdeskError, Problem) as error:
            raise _error(error) from error

    @strawberry.field(description="The models that serve, as /v1/models says it.")
    async def models(self, info: strawberry.Info) -> list[JSON]:
        """Return what /v1/models says."""
        try:
            return [JSON(model) for model in await about.describe_all(info.context["request"].app.state)]
        except NewsdeskError as error:
            raise _error(error) from error


class Schema(strawberry.Schema):
    """The schema, whose errors are not logged."""

    def process_errors(self, errors: list[GraphQLError], execution_context: Any = None) -> None:
        """Log nothing: what strawberry would log repeats the query, and with it the texts."""


def _answer(item: Item) -> Answer:
    if isinstance(item, TextRefused):
        return Answer(index=item.index, error=item.reason)
    members = None
    if item.members is not None:
        members = [
            Member(name=name, probabilities=_scores(probabilities)) for name, probabilities in item.members.items()
        ]
    uncertainty = None
    if item.uncertainty is not None:
        total, data, model = item.uncertainty
        uncertainty = Uncertainty(total=total, data=data, model=model)
    words = [Word(**asdict(word)) for word in item.words] if isinstance(item, Explained) else None
    return Answer(
        index=item.index,
        label=item.label,
        probabilities=_scores(item.probabilities),
        answered_by=item.answered_by,
        windows=item.windows,
        members=members,
        unsure=item.unsure,
        uncertainty=uncertainty,
        words=words,
        version=item.version or None,
    )


def _scores(probabilities: dict[str, float]) -> list[Score]:
    return [Score(label=label, probability=share) for label, share in probabilities.items()]


def _error(error: NewsdeskError | Problem) -> GraphQLError:
    problem = problem_of(error) if isinstance(error, NewsdeskError) else error
    return GraphQLError(problem.detail, extensions={"type": problem.kind, "status": problem.status_code})


class _GraphqlRequest(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    query: str
    variables: dict[str, Any] | None = None
    operation_name: str | None = None
    extensions: dict[str, Any] | None = None


async def bounded(request: HTTPConnection) -> None:
    """Refuse what is no GraphQL request, or too much of one, before anything walks through it.

    Raises:
        Unsupported: the body says that it is no JSON.
        Malformed: it is no GraphQL request, or nested too deep.
        TooLarge: it is too much of one.
    """
    if not isinstance(request, Request) or request.method != "POST":  # the route is a WebSocket's, too
        return
    raw = await json_bytes(request)
    try:
        query = msgspec.json.decode(raw, type=_GraphqlRequest).query
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise Malformed(f"The body is not a GraphQL request, an object with a query: {error}.") from None
    check_query(query)


def check_query(query: str) -> None:
    """Check how much a query is.

    Raises:
        TooLarge: it has too many tokens, names or fragments.
        Malformed: it is nested too deep.
    """
    lexer, counts, depth = Lexer(Source(query)), Counter[TokenKind | None](), 0
    try:
        while (kind := lexer.advance().kind) is not TokenKind.EOF:
            counts.update((kind, None))
            depth += (kind in _OPEN) - (kind in _CLOSE)
            if depth > _DEPTH:
                raise Malformed(f"The query is nested more than {_DEPTH} deep.")
            for counted, (most, what) in _MOST.items():
                if counts[counted] > most:
                    raise TooLarge(f"The query has more than {most} {what}: give the texts as a variable.")
    except GraphQLSyntaxError:
        return  # the parser says the same, as GraphQL answers it


router = GraphQLRouter(
    Schema(Query, extensions=[lambda: MaxAliasesLimiter(_MOST_ALIASES)]),
    path="/graphql",
    graphql_ide=None,  # it loads scripts from elsewhere
    allow_queries_via_get=False,  # addresses end up in logs
    subscription_protocols=(),
    dependencies=[*only(Role.reader), Depends(bounded)],
    tags=["graphql"],
)

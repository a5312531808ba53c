"""Corrections of labels, kept for the next build. Nothing is asked of the model."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, StrictStr, Tag
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from newsdesk.server.contract import MAX_TEXT_BYTES
from newsdesk.server.gateway import models
from newsdesk.server.gateway.auth import Caller, requires
from newsdesk.server.gateway.feedback import MOST_NOTE, Feedback
from newsdesk.server.gateway.keys import Role
from newsdesk.server.gateway.problems import Invalid, NotFound, TooLarge
from newsdesk.server.gateway.routes.bodies import described, json_body
from newsdesk.server.gateway.schemas import TextInput, as_text, documented

router = APIRouter(tags=["feedback"])
_MOST_NAME = 1000


class Correction(BaseModel):
    """A text and its right label."""

    model_config = ConfigDict(extra="forbid")

    text: TextInput
    label: Annotated[StrictStr, Field(description="The right label, one of the model's.")]
    predicted: Annotated[StrictStr | None, Field(max_length=_MOST_NAME, description="The label that was wrong.")] = None
    note: Annotated[StrictStr | None, Field(max_length=MOST_NOTE, description="For who reads the corrections.")] = None


class FeedbackRequest(RootModel[list[Correction] | Correction]):
    """A correction, or a list of them."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "Shares slide as oil rises", "label": "Business"}]}
    )

    root: Annotated[
        Annotated[Correction, Tag("correction")]
        | Annotated[list[Correction], Field(fail_fast=True, min_length=1), Tag("list")],
        Discriminator(
            lambda body: "list" if isinstance(body, list) else "correction",
        ),
    ]

    def corrections(self) -> list[Correction]:
        """Return the corrections as a list."""
        return self.root if isinstance(self.root, list) else [self.root]


class FeedbackResponse(BaseModel):
    """The number of corrections that were kept."""

    kept: Annotated[int, Field(description="Corrections that were kept: all that were sent.")]


def _on(request: Request) -> Feedback:
    feedback: Feedback | None = request.app.state.feedback
    if feedback is None:
        raise NotFound("No feedback is taken here. The operator turns it on: newsdesk serve --feedback FOLDER.")
    return feedback


@router.post(
    "/v1/models/{model}/feedback",
    responses=documented(400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503, 504, 507),
    openapi_extra=described(FeedbackRequest),
)
@router.post(
    "/v1/feedback",
    responses=documented(400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503, 504, 507),
    openapi_extra=described(FeedbackRequest),
)
async def feedback(
    request: Request,
    caller: Annotated[Caller, Depends(requires(Role.reader))],
    folder: Annotated[Feedback, Depends(_on)],
    body: Annotated[FeedbackRequest, Depends(json_body(FeedbackRequest))],
    model: str = "",
) -> FeedbackResponse:
    """Keep corrections of a model's labels, or of the default one's: all are kept, or none.

    A correction is `{"text", "label", "predicted"?, "note"?}`; a list of those is taken, too.
    """
    asked = models.of(request, model)
    corrections = body.corrections()
    if len(corrections) > (most := request.app.state.settings.max_texts):
        raise TooLarge(f"{len(corrections)} corrections are given, at most {most} are taken at once.")
    request.state.texts = len(corrections)
    labels = await asked.plane.labels()
    lines = []
    for place, correction in enumerate(corrections):
        where = f"{place}." if isinstance(body.root, list) else ""
        text = as_text(correction.text)
        _check(text, correction, labels, where)
        lines.append(
            {"text": text, "label": correction.label, "predicted": correction.predicted, "note": correction.note}
        )
    about = {"model": asked.name, "caller": caller.id, "request_id": request.state.request_id}
    await run_in_threadpool(folder.append, asked.name, lines, about)
    return FeedbackResponse(kept=len(lines))


def _check(text: str, correction: Correction, labels: tuple[str, ...], where: str) -> None:
    """Raises Invalid for what no build could learn from."""
    if (size := len(text.encode())) > MAX_TEXT_BYTES:
        raise Invalid(f"{where}text: {size:,} bytes, expected at most {MAX_TEXT_BYTES // 1024} KiB.")
    if not text.strip():
        raise Invalid(f"{where}text: empty, expected at least one visible character.")
    if correction.label not in labels:
        raise Invalid(f"{where}label: {correction.label!r:.80} is no label of the model: {', '.join(labels):.800}.")

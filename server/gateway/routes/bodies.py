"""Reading a JSON body into its model, with the problem that names what is wrong with it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from newsdesk.server.gateway import structure
from newsdesk.server.gateway.problems import Invalid, Malformed, Unsupported

Model = TypeVar("Model", bound=BaseModel)
_SHOWN = 20


def json_body(model: type[Model]) -> Callable[[Request], Awaitable[Model]]:
    """Return the dependency that reads the body as JSON of a model.

    The dependency raises Unsupported, Malformed, TooLarge and Invalid.
    """

    async def read(request: Request) -> Model:
        return await read_json(model, request)

    return read


async def read_json(model: type[Model], request: Request) -> Model:
    """Return the body, which is JSON of a model.

    Raises:
        Unsupported: it says that it is something else.
        Malformed: it is nested too deep, or no JSON.
        TooLarge: it holds more values than are taken.
        Invalid: it is not of the model.
    """
    return _validated(model, await json_bytes(request))


async def json_bytes(request: Request) -> bytes:
    """Return a body that says it is JSON, its structure checked.

    Raises:
        Unsupported: it says that it is something else.
        Malformed: it is nested too deep, or no JSON.
        TooLarge: it holds more values than are taken.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise Unsupported(
            f"The body is of type {content_type or 'unknown'!r:.80}, expected Content-Type: application/json."
        )
    raw = await request.body()
    structure.check(raw, structure.VALUES + structure.VALUES_PER_TEXT * request.app.state.settings.max_texts)
    return raw


def parse(model: type[Model], raw: str) -> Model:
    """Return JSON as a model.

    Raises:
        Malformed: it is not JSON.
        Invalid: it is not of the model.
        TooLarge: it holds more values than are taken.
    """
    encoded = raw.encode(errors="surrogatepass")
    structure.check(encoded)
    return _validated(model, encoded)


def _validated(model: type[Model], raw: bytes) -> Model:
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        # Neither here nor in the log does an error repeat the text.
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        if errors[0]["type"] == "json_invalid":
            raise Malformed(f"The body is not JSON in UTF-8: {errors[0]['msg']}.") from None
        raise invalid(errors) from None


def invalid(reasons: Sequence[Any]) -> Invalid:
    """Return the problem of what pydantic, or FastAPI with it, found wrong."""
    errors = [{"where": ".".join(map(str, reason["loc"])), "what": reason["msg"]} for reason in reasons[:_SHOWN]]
    first = errors[0]
    return Invalid(f"{first['where'] or 'The body'}: {first['what']}.", errors=errors)


def described(model: type[BaseModel]) -> dict[str, Any]:
    """Return `openapi_extra` for a route whose body `json_body` reads."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

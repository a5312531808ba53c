"""The page at /, and its files: read once, and let load nothing that does not come from here."""

from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from newsdesk.server.gateway.problems import NotFound

router = APIRouter(include_in_schema=False)
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FILES = {
    file.name: file.read_bytes()
    for file in (files("newsdesk.server.gateway") / "page").iterdir()
    if file.name.rpartition(".")[2] in _TYPES
}
# No markup becomes a script, an inline one included: the texts shown are strangers'.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


@router.get("/")
async def page(request: Request) -> Response:
    """The page; it is told whether a key is asked for and whether feedback is taken, so that it need not try."""
    told = _FILES["index.html"]
    for name, holds in ((b"asks-for-key", request.app.state.settings.asks), (b"feedback", request.app.state.feedback)):
        told = told.replace(b'data-%s="no"' % name, b'data-%s="%s"' % (name, b"yes" if holds else b"no"))
    return _sent("index.html", told)


@router.get("/page/{name}")
async def file(name: str) -> Response:
    """A file of the page."""
    if name not in _FILES:
        raise NotFound(f"The page has no file {name!r:.80}.")
    return _sent(name, _FILES[name])


def _sent(name: str, content: bytes) -> Response:
    return Response(content, 200, {"Content-Security-Policy": _POLICY}, _TYPES[name.rpartition(".")[2]])

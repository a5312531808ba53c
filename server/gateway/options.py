"""The gateway's settings as options of `newsdesk serve`; `GatewaySettings` says what each means."""

from pathlib import Path
from typing import Annotated, Any

import typer

_PANEL = "Gateway (--max-texts is also NEWSDESK_MAX_TEXTS, and so on)"


def _option(variable: str, about: str, *names: str, **more: Any) -> Any:
    more |= {"envvar": f"NEWSDESK_{variable}", "show_envvar": False, "rich_help_panel": _PANEL}
    return typer.Option(*names, help=about, **more)


Gateway = Annotated[bool, _option("GATEWAY", "Start the REST gateway beside Triton.", "--gateway/--no-gateway")]
GatewayHost = Annotated[str, _option("GATEWAY_HOST", "Its address, if not Triton's.", show_default="--host")]
GatewayPort = Annotated[int, _option("GATEWAY_PORT", "REST, files, WebSocket and Open Inference Protocol.")]
Auth = Annotated[bool, _option("AUTH", "Ask for keys or tokens on loopback, too.", "--auth")]
Insecure = Annotated[bool, _option("INSECURE", "Let everybody classify, beyond loopback, too.", "--insecure")]
Keys = Annotated[Path | None, _option("KEYS", "File of `newsdesk keys`.", "--keys", show_default="<state>/keys.json")]
JwtSecretFile = Annotated[Path | None, _option("JWT_SECRET_FILE", "Secret of HS256 tokens.", "--jwt-secret-file")]
Jwks = Annotated[str, _option("JWKS", "https URL, or file, of the public keys of tokens.")]
JwtIssuer = Annotated[str, _option("JWT_ISSUER", "What tokens must say in iss; needed with --jwks.")]
JwtAudience = Annotated[str, _option("JWT_AUDIENCE", "What tokens must say in aud; needed with --jwks.")]
JwtRoleClaim = Annotated[str, _option("JWT_ROLE_CLAIM", "Claim of tokens that holds the role.")]
JwtAdmin = Annotated[bool, _option("JWT_ADMIN", "Let tokens be an administrator's.", "--jwt-admin")]
RateLimit = Annotated[str, _option("RATE_LIMIT", 'Requests of one caller, as "600/minute".', show_default="none")]
RateStorage = Annotated[str, _option("RATE_STORAGE", "redis:// URL to count in.", show_default="memory")]
RateStoragePasswordFile = Annotated[
    Path | None, _option("RATE_STORAGE_PASSWORD_FILE", "File of Redis' password.", "--rate-storage-password-file")
]
CorsOrigin = Annotated[list[str], _option("CORS_ORIGIN", "Web origin whose pages may call; may be repeated.")]
AllowedHost = Annotated[
    list[str], _option("ALLOWED_HOST", "Name under which it may be called; may be repeated.", show_default="localhost")
]
MaxBodyMib = Annotated[int, _option("MAX_BODY_MIB", "Largest body of a request.")]
MaxFileMib = Annotated[int, _option("MAX_FILE_MIB", "Largest file to classify.")]
MaxTexts = Annotated[int, _option("MAX_TEXTS", "Most texts of one request.")]
MaxQueue = Annotated[int, _option("MAX_QUEUE", "Most texts on their way to the model.")]
MaxConnections = Annotated[int, _option("MAX_CONNECTIONS", "Most connections of one address.")]
RequestTimeout = Annotated[float, _option("REQUEST_TIMEOUT", "Seconds that a request may take.")]
HedgeShare = Annotated[float, _option("HEDGE_SHARE", "Of the texts, that may be asked for again when late.")]
LogTexts = Annotated[bool, _option("LOG_TEXTS", "Log texts, masked for personal details.", "--log-texts")]

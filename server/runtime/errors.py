"""The errors of the serving half. A message says what was given, what was expected and what to do."""


class ServerError(Exception):
    """Serving that cannot start or go on."""


class ManifestError(ServerError):
    """A model folder whose manifest does not hold: missing, of another schema, or not matching its files."""


class EngineError(ServerError):
    """An engine that cannot be loaded here: not installed, or a processor without what the artifact needs."""


class TextError(ValueError):
    """A text that is refused: not UTF-8, empty, or over the size limit."""


class QualityError(ValueError):
    """A quality that is none of those there are."""

"""The errors of scoring."""

from newsdesk.server.runtime.errors import ServerError


class ScoreError(ServerError):
    """Files that cannot be scored, or not further than this."""

"""The errors of offline work. A message says what was given, what was expected and what to do."""


class BuildError(Exception):
    """A build that cannot go on."""


class RecipeError(BuildError):
    """A recipe that cannot be read, or that asks for what does not exist."""


class DataError(BuildError):
    """Rows that cannot be read or cannot be learned from."""


class VerificationError(BuildError):
    """An artifact that does not answer as its original does."""

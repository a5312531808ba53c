"""The texts that a canary answers, by a hash: a text has one answer for as long as the canary is there."""

import hashlib

from newsdesk.server.runtime.text import clean

_BYTES = 8
_ALL = float(2 ** (8 * _BYTES))


def place(text: str | bytes, salt: str) -> float:
    """Return a text's place in [0, 1): the same for all spellings that the members read alike.

    `salt` gives each canary other texts, so that it is not always the same ones that are tried on.
    """
    decoded = text if isinstance(text, str) else text.decode(errors="surrogateescape")
    cleaned = clean(decoded).encode(errors="surrogatepass")
    digest = hashlib.blake2b(cleaned, digest_size=_BYTES, salt=salt.encode()[: hashlib.blake2b.SALT_SIZE]).digest()
    return int.from_bytes(digest, "big") / _ALL

"""API keys: who may call, and as what. Only hashes are stored, in a file that the gateway reads anew when it changes.

A key is `nd_<id>_<secret>`: the id finds its entry, the secret is 256 random bits, so that a plain SHA-256 of it is as
good as a slow hash.
"""

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from pathlib import Path

from newsdesk.server.runtime.errors import ServerError

_KEY = re.compile(r"nd_(?P<id>[0-9a-f]{12})_(?P<secret>[A-Za-z0-9_-]{43})")
_NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
_DAY = 24 * 3600


class KeysError(ServerError):
    """A key file that cannot be used, or a key that is not in it."""


class Role(IntEnum):
    """The rights of a caller; each role may do what the ones below it may."""

    reader = 1
    """Classify, and see what serves."""
    operator = 2
    """Load and unload models."""
    admin = 3
    """See the callers."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """An API key, without its secret."""

    id: str
    name: str
    role: str
    sha256: str
    created: float
    """Seconds since 1970, as the two below."""
    expires: float | None
    revoked: float | None = None

    def state(self, now: float) -> str:
        """Return "valid", "expired" or "revoked"; `now` is seconds since 1970."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "valid"

    def shown(self, now: float) -> dict[str, str | float | None]:
        """Return what may be seen of it, by name: all but its hash, and its state; `now` as of `state`."""
        fields = asdict(self)
        del fields["sha256"]
        return {**fields, "state": self.state(now)}


class KeyFile:
    """The file of keys. Reading costs one stat while it is unchanged; writing is whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}

    def keys(self) -> dict[str, Key]:
        """Return the keys by id, oldest first.

        Raises:
            KeysError: the file is not one of keys.
        """
        try:
            status = self.path.stat()
            seen = status.st_mtime_ns, status.st_size, status.st_ino
            if seen != self._seen:
                entries = json.loads(self.path.read_bytes())["keys"]
                self._keys = {key.id: key for key in (Key(**entry) for entry in entries) if Role[key.role]}
                self._seen = seen
        except FileNotFoundError:
            self._seen, self._keys = None, {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise KeysError(
                f"{self.path}: not a file of keys ({error}). Restore it, or remove it and make new keys."
            ) from error
        return self._keys

    def find(self, secret: str, now: float) -> Key | None:
        """Return the valid key that was given, comparing in a time that says nothing about how far it was right.

        Args:
            secret: the whole key, nd_…
            now: seconds since 1970

        Raises:
            KeysError: the file is not one of keys.
        """
        match = _KEY.fullmatch(secret)
        key = self.keys().get(match["id"]) if match else None
        same = hmac.compare_digest(_digest(secret), key.sha256 if key else _NOBODY)
        return key if key and same and key.state(now) == "valid" else None

    def create(self, name: str, role: Role, days: float | None) -> tuple[Key, str]:
        """Make a key and return it with its secret text, which is kept nowhere.

        Args:
            name: of who gets it, 1 to 64 characters
            role: the key's
            days: until it expires, at most 36500; None: it does not

        Raises:
            KeysError: the name or the days cannot be used.
        """
        if not re.fullmatch(r"[\w .@-]{1,64}", name):
            raise KeysError(f"name is {name!r}, expected 1 to 64 letters, digits, spaces or .@-_")
        if days is not None and not 0 < days <= 36_500:
            raise KeysError(f"days is {days}, expected more than 0 and at most 36500")
        now = time.time()
        text = f"nd_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
        key = Key(
            id=text.split("_")[1],
            name=name,
            role=role.name,
            sha256=_digest(text),
            created=now,
            expires=None if days is None else now + days * _DAY,
        )
        with self._writing() as keys:
            keys[key.id] = key
        return key, text

    def revoke(self, id: str) -> Key:
        """Revoke a key and return it. One that was revoked before stays as it was.

        Raises:
            KeysError: there is no such key.
        """
        with self._writing() as keys:
            if id not in keys:
                raise KeysError(f"there is no key {id!r} in {self.path}: `newsdesk keys list` shows them")
            if keys[id].revoked is None:
                keys[id] = replace(keys[id], revoked=time.time())
            return keys[id]

    @contextmanager
    def _writing(self) -> Iterator[dict[str, Key]]:
        """Hand out the keys to change, and write them: one writer at a time, readable for the owner alone."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (self.path.parent / f".{self.path.name}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = dict(self.keys())
            yield keys
            partial = self.path.with_name(f".{self.path.name}.partial")
            partial.unlink(missing_ok=True)
            with os.fdopen(
                os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
            ) as file:
                json.dump({"keys": [asdict(key) for key in keys.values()]}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

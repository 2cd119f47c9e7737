"""Who may call what: bearer keys with scopes, stored hashed, re-read when their file changes."""

import os
import secrets
import time
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, get_args

from service.errors import ForbiddenError, UnauthorizedError

Scope = Literal["act", "report", "read", "submit", "operate"]
SCOPES: Final[tuple[str, ...]] = get_args(Scope)

_LOOK_SECONDS: Final = 1.0
_MAX_KNOWN: Final = 4096
_PREFIX: Final = b"bearer "


class KeysError(Exception):
    """The keys file is missing or holds a line that is not a key."""


class Keys:
    """The keys that are known; without a file, every call is allowed.

    A file that breaks while the server runs leaves the keys as they were: a slip of an editor
    must lock nobody out and let nobody in.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._scopes: dict[bytes, tuple[str, frozenset[str]]] = {}
        self._known: dict[bytes, tuple[str, frozenset[str]]] = {}
        """Headers whose key was found: to hash one anew with each request costs a tenth of it."""
        self._stamp: tuple[int, int, int] | None = None
        self._looked_at = 0.0
        self.fault: str | None = None
        if path is not None:
            self._scopes = read_keys(path)
            self._stamp = _stamp_of(path)

    def authorise(self, authorization: bytes | None, scope: Scope) -> str:
        """The name of the key that allows this call.

        Raises:
            UnauthorizedError: No key, or none that is known.
            ForbiddenError: The key lacks the scope.
        """
        if self._path is None:
            return "anonymous"
        self._look()
        if authorization is None or authorization[:7].lower() != _PREFIX:
            raise UnauthorizedError("a key is needed: Authorization: Bearer <key>")
        name, scopes = self._known.get(authorization) or self._find(authorization)
        if scope not in scopes:
            raise ForbiddenError(f"the key lacks the scope {scope!r}")
        return name

    def _find(self, authorization: bytes) -> tuple[str, frozenset[str]]:
        # Looked up by digest, so that the time taken tells nothing about the keys.
        found = self._scopes.get(sha256(authorization[7:].strip()).digest())
        if found is None:
            raise UnauthorizedError("the key is not known")
        # One key can be written in many ways, with blanks around it.
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[authorization] = found
        return found

    def _look(self) -> None:
        now = time.monotonic()
        if self._path is None or now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            stamp = _stamp_of(self._path)
            if stamp != self._stamp:
                self._scopes = read_keys(self._path)
                self._known.clear()
                self._stamp = stamp
            self.fault = None
        except KeysError as error:
            self.fault = str(error)


def read_keys(path: Path) -> dict[bytes, tuple[str, frozenset[str]]]:
    """Digest to (name, scopes). Each line is `name scope,scope sha256-hex`; # begins a comment.

    Raises:
        KeysError: The file cannot be read, or a line is not a key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"{path}: {error}") from error
    keys: dict[bytes, tuple[str, frozenset[str]]] = {}
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            name, listed, digest = words
            scopes = frozenset(listed.split(","))
            keys[bytes.fromhex(digest)] = (name, scopes)
        except ValueError:
            raise KeysError(
                f"{path}, line {number}: expected `name scopes sha256`, found {len(words)} words"
            ) from None
        unknown = scopes - set(SCOPES)
        if unknown or len(digest) != 64:
            raise KeysError(
                f"{path}, line {number}: scopes are {', '.join(SCOPES)} and the hash has 64 "
                f"hex digits; found {listed} and {len(digest)} digits"
            )
    return keys


def add_key(path: Path, name: str, scopes: list[str]) -> str:
    """Make a key, append its hash to the file and return the key: it is shown this once."""
    if not name or len(name.split()) != 1 or "#" in name:
        raise KeysError(f"a key's name is one word, found {name!r}")
    unknown = set(scopes) - set(SCOPES)
    if unknown or not scopes:
        raise KeysError(f"scopes are {', '.join(SCOPES)}; found {', '.join(sorted(unknown))!r}")
    key = f"dqn_{secrets.token_urlsafe(32)}"
    line = f"{name} {','.join(scopes)} {sha256(key.encode()).hexdigest()}\n"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            # An editor left the last line without its end.
            line = f"\n{line}"
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return key


def _stamp_of(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise KeysError(f"{path}: {error}") from error
    return status.st_mtime_ns, status.st_size, status.st_ino

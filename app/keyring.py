"""The keys of PIXTOOLS_SECRET_KEY: they sign download links, and encrypt the secrets in the database.

There may be several, so that one can be replaced while its links are still in use and rows are still encrypted with it:
the first one signs and encrypts, all of them verify and decrypt.
"""

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.errors import CannotStart, UnreadableSecret

LEAST_CHARACTERS = 16  # minimum length of a key; HKDF does no key stretching, so a short one could be guessed
PURPOSE = b"pixtools secrets at rest"  # separates this use from signatures of links, which use the keys directly
MARK = "enc1"  # prefix of encrypted texts; a text without it was stored by a version without encryption
NONCE_BYTES = 12
ADVICE = "Set PIXTOOLS_SECRET_KEY to a long random text (`openssl rand -hex 32`), the same for all processes."


@dataclass(frozen=True, repr=False)
class _Key:
    """One key for stored secrets."""

    cipher: AESGCM
    #: identifies the key that a text was encrypted with, and reveals nothing about it
    name: str


@dataclass(frozen=True, repr=False)
class Keyring:
    """All keys of a deployment, the current one first."""

    #: as they were given; the first one signs, all of them verify
    signing: tuple[bytes, ...]
    _keys: tuple[_Key, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_keys", tuple(_derived(key) for key in self.signing))

    @classmethod
    def of(cls, text: str) -> "Keyring":
        """The keys of a setting or file, separated by commas.

        Raises:
            CannotStart: there is none, or one is too short; the message does not repeat it.
        """
        keys = [part.strip() for part in text.split(",") if part.strip()]
        if not keys:
            raise CannotStart(f"There is no secret key. {ADVICE}")
        if shortest := next((number for number, key in enumerate(keys, 1) if len(key) < LEAST_CHARACTERS), None):
            which = f"Key {shortest} of PIXTOOLS_SECRET_KEY" if len(keys) > 1 else "PIXTOOLS_SECRET_KEY"
            raise CannotStart(f"{which} has fewer than {LEAST_CHARACTERS} characters. {ADVICE}")
        return cls(tuple(key.encode() for key in keys))

    @property
    def prefix(self) -> str:
        """The prefix of every text that the current key has encrypted."""
        return _prefix(self._keys[0])

    def encrypt(self, secret: str, context: str) -> str:
        """A text to be stored.

        Args:
            secret: what must not be readable in the database.
            context: where it is stored; it can be decrypted nowhere else.
        """
        nonce, key = secrets.token_bytes(NONCE_BYTES), self._keys[0]
        sealed = nonce + key.cipher.encrypt(nonce, secret.encode(), context.encode())
        return _prefix(key) + base64.b64encode(sealed).decode()

    def decrypt(self, stored: str, context: str) -> str:
        """What was encrypted by any of the keys; a text from before there was encryption is returned as it is.

        Raises:
            UnreadableSecret: none of the keys fits, or it was stored elsewhere.
        """
        mark, _, rest = stored.partition(":")
        if mark != MARK:
            return stored
        name, _, encoded = rest.partition(":")
        sealed = _decoded(encoded)
        for key in (key for key in self._keys if key.name == name):
            try:
                return key.cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context.encode()).decode()
            except (InvalidTag, ValueError):
                continue
        raise UnreadableSecret


def _derived(key: bytes) -> _Key:
    raw = HKDF(algorithm=SHA256(), length=32, salt=None, info=PURPOSE).derive(key)
    return _Key(cipher=AESGCM(raw), name=hashlib.sha256(PURPOSE + raw).hexdigest()[:8])


def _prefix(key: _Key) -> str:
    return f"{MARK}:{key.name}:"


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise UnreadableSecret from None


def context_of(table: str, *columns: object) -> str:
    """Where something is stored: the table, and the columns of the row that never change."""
    return "\n".join([table, *("" if column is None else str(column) for column in columns)])

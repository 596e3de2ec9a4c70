"""The keys of PIXTOOLS_SECRET_KEY, which sign download links and encrypt the secrets in the database.

There may be several keys: the first one signs and encrypts, and all of them verify and decrypt. So a key can be
replaced while links and rows that were made with it are still in use.
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
    """One key that encrypts stored secrets."""

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
        """Parse the keys of a setting or a file, separated by commas.

        Raises:
            CannotStart: there is no key, or one is too short; the message does not contain it.
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
        """The prefix of all texts that are encrypted with the current key."""
        return _prefix(self._keys[0])

    def encrypt(self, secret: str, context: str) -> str:
        """Encrypt a secret; returns the text to store.

        Args:
            secret: the secret.
            context: the place where the text is stored, see `context_of`; it cannot be decrypted for another place.
        """
        nonce, key = secrets.token_bytes(NONCE_BYTES), self._keys[0]
        sealed = nonce + key.cipher.encrypt(nonce, secret.encode(), context.encode())
        return _prefix(key) + base64.b64encode(sealed).decode()

    def decrypt(self, stored: str, context: str) -> str:
        """Decrypt a text with any of the keys; a text that an earlier version stored in plain is returned unchanged.

        Raises:
            UnreadableSecret: none of the keys fits, or the text was stored in another place.
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
    """The place where a secret is stored: the table, and columns of the row that never change."""
    return "\n".join([table, *("" if column is None else str(column) for column in columns)])

"""Signatures of webhooks, as Standard Webhooks 1.0 defines them (https://www.standardwebhooks.com)."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"
VERSION = "v1"
KEY_BYTES = 32  # the specification asks for 24 to 64


def new_secret() -> str:
    """A new key for a receiver: `whsec_` and base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def sign(keys: Iterable[str], *, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature for each key, so that a receiver can change its key at any time.

    Args:
        keys: secrets as `new_secret` makes them.
        message_id: the `webhook-id`, without a dot.
        timestamp: the `webhook-timestamp`, in seconds since 1970.
        body: exactly the bytes to send.
    """
    content = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return " ".join(f"{VERSION},{_hmac(key, content)}" for key in keys)


def _hmac(key: str, content: bytes) -> str:
    raw = base64.b64decode(key.removeprefix(PREFIX))
    return base64.b64encode(hmac.digest(raw, content, hashlib.sha256)).decode()

"""Verifies the signatures of webhooks (Standard Webhooks 1.0)."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import cast

from pixtools_client.errors import InvalidSignature
from pixtools_client.types import Event

TOLERANCE = 300.0  # seconds that the clocks of sender and receiver may differ
PREFIX = "whsec_"
VERSION = "v1"


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, tolerance: float = TOLERANCE) -> Event:
    """Verify the signature of a webhook; returns its event.

    Args:
        secret: secret of the endpoint, as returned by `create_webhook` or `rotate_webhook`.
        headers: headers of the request; the case of their names does not matter.
        body: exactly the bytes that were received.
        tolerance: most seconds by which the time of the signature may differ from now.

    Raises:
        InvalidSignature: the signature does not match the secret, or its time differs too much.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        id_, at = given["webhook-id"], given["webhook-timestamp"]
        age, signatures = abs(time.time() - int(at)), given["webhook-signature"].split()
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except KeyError as missing:
        raise InvalidSignature(f"The request has no header {missing}.") from None
    except (ValueError, binascii.Error):
        raise InvalidSignature("The timestamp or the secret is malformed.") from None
    if age > tolerance:
        raise InvalidSignature(f"The request is {age:.0f} seconds old, or from the future.")
    signed = hmac.digest(key, b".".join((id_.encode(), at.encode(), body)), hashlib.sha256)
    expected = f"{VERSION},{base64.b64encode(signed).decode()}".encode()
    if not any(hmac.compare_digest(expected, signature.encode()) for signature in signatures):
        raise InvalidSignature("No signature of the request was made with this secret.")
    return cast("Event", {"id": id_, **json.loads(body)})

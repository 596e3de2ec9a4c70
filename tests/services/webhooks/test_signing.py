"""Signatures, held against the public verifier."""

import base64
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from app.services.webhooks.signing import new_secret, sign

BODY = '{"type":"job.completed","data":{"filename":"Räder.jpg"}}'.encode()


def headers(*secrets: str, body: bytes = BODY) -> dict[str, str]:
    now = int(time.time())
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign(secrets, message_id="msg_1", timestamp=now, body=body),
    }


def test_a_signature_is_what_the_public_library_makes() -> None:
    secret, at = new_secret(), datetime.fromtimestamp(1_790_000_000, UTC)
    theirs = Webhook(secret).sign("msg_1", at, BODY.decode())
    assert sign([secret], message_id="msg_1", timestamp=1_790_000_000, body=BODY) == theirs


def test_each_of_two_keys_verifies_and_a_third_does_not() -> None:
    old, new = new_secret(), new_secret()
    signed = headers(new, old)
    for secret in (old, new):
        assert Webhook(secret).verify(BODY, signed)["type"] == "job.completed"
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, signed)


def test_every_byte_counts() -> None:
    secret = new_secret()
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", headers(secret))


def test_secrets_are_long_and_differ() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(base64.b64decode(secret.removeprefix("whsec_"))) for secret in secrets} == {32}

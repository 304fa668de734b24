"""Standard Webhooks 1.0: the symmetric signature of one delivery (github.com/standard-webhooks/standard-webhooks)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from monitor.errors import ConfigError

_PREFIX = "whsec_"


def signing_key(secret: str) -> bytes:
    """The key that a secret stands for: base64 after `whsec_`, else the text itself in UTF-8.

    Raises ConfigError, which does not show the secret, when it is empty or not base64.
    """
    if not secret.startswith(_PREFIX):
        key = secret.encode()
    else:
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error as error:
            raise ConfigError(
                "a webhook's secret is not base64 after whsec_: copy it again from where it was made"
            ) from error
    if not key:
        raise ConfigError("a webhook's secret is empty: give it at least 24 random bytes, in base64 after whsec_")
    return key


def headers(*, delivery_id: str, timestamp_s: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """The three headers of one attempt: its id, its time in Unix seconds, and a signature per key, space-separated."""
    signed = f"{delivery_id}.{timestamp_s}.".encode() + body
    signatures = (base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys)
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }

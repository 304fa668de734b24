from __future__ import annotations

import base64

import pytest

from monitor.alert.signature import headers, signing_key
from monitor.errors import ConfigError

# The vector of the specification's own libraries (github.com/standard-webhooks/standard-webhooks).
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ATTEMPT = {"delivery_id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "timestamp_s": 1614265330, "body": b'{"test": 2432232314}'}
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_published_vector_is_signed_as_published() -> None:
    assert headers(keys=[signing_key(SECRET)], **ATTEMPT) == {  # type: ignore[arg-type]
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": SIGNATURE,
    }


def test_while_keys_change_each_signs() -> None:
    other = signing_key("a plain text secret")
    alone = headers(keys=[other], **ATTEMPT)["webhook-signature"]  # type: ignore[arg-type]
    both = headers(keys=[other, signing_key(SECRET)], **ATTEMPT)["webhook-signature"]  # type: ignore[arg-type]
    assert both == f"{alone} {SIGNATURE}"


def test_a_plain_secret_is_its_own_key() -> None:
    assert signing_key("clé") == "clé".encode()
    assert signing_key("whsec_" + base64.b64encode(b"key").decode()) == b"key"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64!", "whsec_abc"])
def test_an_unusable_secret_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        signing_key(secret)
    assert not secret.removeprefix("whsec_") or secret.removeprefix("whsec_") not in str(caught.value)

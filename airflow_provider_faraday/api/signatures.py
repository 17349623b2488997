"""Signatures of the Standard Webhooks specification, which prove that Faraday has sent a message.

https://www.standardwebhooks.com

``hmac`` does the work. The specification's own library accepts one secret at a time and only its own names of
the headers, and raises errors of many kinds for malformed ones.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any

TOLERANCE_SECONDS = 300
"""How far the timestamp of a message may be from now."""

_HEADERS = ("svix", "webhook")
_MAX_HEADER_LENGTH = 4096
# Separated by spaces in the specification, by commas in Faraday's client.
_V1_SIGNATURE = re.compile(r"(?:^|[ ,])v1,([^ ,]+)")
_LEAST_KEY_BYTES = 16


class SignatureError(Exception):
    """It is not proven that Faraday has sent a message. The text quotes nothing of the message."""


def signing_keys(secrets: object) -> tuple[bytes, ...]:
    """Return the keys of one or several secrets, ``whsec_…``.

    :param secrets: text with one, or several separated by spaces; or a list of such texts.
    :raises ValueError: if it is anything else. The text quotes no secret.
    """
    texts: list[Any] = secrets if isinstance(secrets, list) else [secrets]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("not text")
    return tuple(_key(secret) for secret in " ".join(texts).split())


def _key(secret: str) -> bytes:
    encoded = secret.removeprefix("whsec_").rstrip("=")
    try:
        key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        key = b""
    # Anybody could sign with an empty key.
    if len(key) < _LEAST_KEY_BYTES:
        raise ValueError("not a secret")
    return key


def verify(headers: Mapping[str, str], body: bytes, keys: Iterable[bytes], now: float) -> str:
    """Return the id of a message that was signed with one of the keys. It repeats when a message is resent.

    :param headers: looked up by names in lower case: ``svix-id`` and so on, or ``webhook-id``.
    :param body: as received.
    :param now: seconds since the epoch.
    :raises SignatureError: if no signature is valid, or the message is more than five minutes off.
    """
    for prefix in _HEADERS:
        id_, sent_at, signatures = (
            headers.get(f"{prefix}-{name}", "") for name in ("id", "timestamp", "signature")
        )
        if id_ and sent_at and signatures:
            break
    else:
        raise SignatureError("it is not signed")
    if max(map(len, (id_, sent_at, signatures))) > _MAX_HEADER_LENGTH:
        raise SignatureError(f"one of its headers has more than {_MAX_HEADER_LENGTH} characters")
    if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) <= 12):
        raise SignatureError("its timestamp is not valid")
    if abs(now - int(sent_at)) > TOLERANCE_SECONDS:
        raise SignatureError("its timestamp is more than five minutes off")
    signed = f"{id_}.{sent_at}.".encode() + body
    given = [each.encode() for each in _V1_SIGNATURE.findall(signatures)]
    expected = [b64encode(hmac.digest(key, signed, "sha256")) for key in keys]
    # A list: how long it takes must not depend on which of them is valid.
    if not any([hmac.compare_digest(valid, each) for valid in expected for each in given]):  # noqa: C419
        raise SignatureError("no signature is valid")
    return id_

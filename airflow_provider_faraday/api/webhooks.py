"""Faraday's webhooks: signatures, messages, and which of them announce a new build.

https://www.standardwebhooks.com specifies the signatures. Its own library accepts one secret and one
prefix of headers, and raises errors of many kinds for invalid input, so ``hmac`` does the work.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, NotRequired, TypedDict
from urllib.parse import urlsplit

import msgspec

from airflow_provider_faraday.api.endpoints import origin
from airflow_provider_faraday.api.inputs import excerpt, is_resource_id
from airflow_provider_faraday.api.resources import RESOURCE_TYPES, ResourceType
from airflow_provider_faraday.api.times import timestamp

if TYPE_CHECKING:
    from airflow_provider_faraday.api.states import ResourceState

READY = "resource.ready_with_update"
ERRORED = "resource.errored"
EVENTS = (READY, ERRORED)

MAX_BODY_BYTES = 64 * 1024
"""The largest message to read. Faraday's have about 200 bytes."""

MAX_CLOCK_SKEW_SECONDS = 300
"""The largest difference between the timestamp of a signature and now."""

MAX_BUILD_AGE = timedelta(minutes=10)
"""How long before its message a build may have ended. Clocks differ, and messages are delayed."""

MAX_ANNOUNCED_AGE = timedelta(minutes=1)
"""The same for a build that an asset has an event for: the message may be about the next one."""

MAX_API_LAG = timedelta(minutes=5)
"""How long after a message Faraday's API may still return the previous build."""

_HEADER_PREFIXES = ("svix", "webhook")
_MAX_HEADER_LENGTH = 4096
# Separated by spaces in the specification, by commas in Faraday's client.
_V1_SIGNATURE = r"(?:^|[ ,])v1,([^ ,]+)"
_MIN_KEY_BYTES = 16
_ENDPOINT_FIELDS = ("id", "url", "enabled_events", "status")


class SignatureError(Exception):
    """A message is not proven to come from Faraday. The text quotes nothing of the message."""


class UnknownMessageError(Exception):
    """A message is about an event or a resource type that this provider does not know."""


class Message(NamedTuple):
    """A message: which resource was built, or failed to build. It contains nothing about the build.

    :param sent_at: the time in the message; None if it is not valid.
    """

    event: str
    resource_type: ResourceType
    resource_id: str
    sent_at: datetime | None

    @property
    def subject(self) -> str:
        """Type and id of the resource, for logs."""
        return f"{self.resource_type.label} {self.resource_id}"

    def is_newer_than(self, state: ResourceState, now: datetime, max_age: timedelta = MAX_BUILD_AGE) -> bool:
        """Return whether Faraday's API still returns the build before the announced one.

        :param max_age: how long before the message the announced build may have ended.
        """
        if self.sent_at is None or not self.resource_type.has_builds or now - self.sent_at >= MAX_API_LAG:
            return False
        built_at = timestamp(state.last_updated_output_at)
        return built_at is None or self.sent_at - built_at > max_age


class _Data(TypedDict, total=False):
    resource_id: str
    resource_type: str


class _Body(TypedDict):
    type: str
    data: _Data
    timestamp: NotRequired[Any]


def signing_keys(secrets: object) -> tuple[bytes, ...]:
    """Return the keys of one or several secrets, ``whsec_…``.

    :param secrets: a string with one, or several separated by spaces; or a list of such strings.
    :raises ValueError: if it is anything else. The text quotes no secret.
    """
    texts: list[Any] = secrets if isinstance(secrets, list) else [secrets]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("not a string")
    return tuple(_key(secret) for secret in " ".join(texts).split())


def _key(secret: str) -> bytes:
    encoded = secret.removeprefix("whsec_").rstrip("=")
    try:
        key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        key = b""
    # Anyone could sign with an empty key.
    if len(key) < _MIN_KEY_BYTES:
        raise ValueError("not a secret")
    return key


def verify(headers: Mapping[str, str], body: bytes, keys: Iterable[bytes], now: float) -> str:
    """Return the id of a message that was signed with one of the keys. Resent messages have the same id.

    :param headers: with lower-case names: ``svix-id`` and so on, or ``webhook-id``.
    :param body: as received.
    :param now: seconds since the epoch.
    :raises SignatureError: if no signature is valid, or the message is more than five minutes off.
    """
    id_, sent_at, signatures = _signature_headers(headers)
    if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) <= 12):
        raise SignatureError("its timestamp is not valid")
    if abs(now - int(sent_at)) > MAX_CLOCK_SKEW_SECONDS:
        raise SignatureError("its timestamp is more than five minutes off")
    signed = f"{id_}.{sent_at}.".encode() + body
    given = [each.encode() for each in re.findall(_V1_SIGNATURE, signatures)]
    expected = [b64encode(hmac.digest(key, signed, "sha256")) for key in keys]
    # A list, because the duration must not depend on which of them is valid.
    if not any([hmac.compare_digest(valid, each) for valid in expected for each in given]):  # noqa: C419
        raise SignatureError("no signature is valid")
    return id_


def _signature_headers(headers: Mapping[str, str]) -> list[str]:
    """Return id, timestamp and signatures, before anything is known about the sender."""
    for prefix in _HEADER_PREFIXES:
        values = [headers.get(f"{prefix}-{name}", "") for name in ("id", "timestamp", "signature")]
        if max(map(len, values)) > _MAX_HEADER_LENGTH:
            raise SignatureError(f"one of its headers has more than {_MAX_HEADER_LENGTH} characters")
        if all(values):
            return values
    raise SignatureError("it is not signed")


def parse_message(body: bytes) -> Message:
    """Parse a message.

    :raises UnknownMessageError: if it is about another event, or about a resource type without assets.
    :raises ValueError: if it is not a message of Faraday.
    """
    try:
        parsed = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(type(error).__name__) from None
    event, type_name = parsed["type"], parsed["data"].get("resource_type", "")
    if event not in EVENTS:
        raise UnknownMessageError(f"unknown event {excerpt(event)}")
    resource_type = RESOURCE_TYPES.get(type_name)
    if resource_type is None:
        raise UnknownMessageError(f"unknown resource type {excerpt(type_name)}")
    id_ = parsed["data"].get("resource_id", "")
    if not is_resource_id(id_):
        raise ValueError("the resource_id is not a UUID")
    sent = parsed.get("timestamp")
    sent_at = timestamp(sent) if isinstance(sent, str) else None
    return Message(event, resource_type, id_.lower(), sent_at)


def is_announced(message_id: str, build: Mapping[str, Any] | None, events: Iterable[Any]) -> bool:
    """Return whether an asset has an event for a message, or for the same build or a later one.

    :param build: the payload of the event that the message would cause, if it is known.
    :param events: the ``extra`` of the asset's recent events, those of watchers included.
    """
    return any(
        extra.get("webhook_id") == message_id or _contains(extra.get("payload"), build)
        for extra in events
        if isinstance(extra, dict)
    )


def _contains(payload: object, build: Mapping[str, Any] | None) -> bool:
    if not (build and isinstance(payload, dict) and payload.get("id") == build["id"]):
        return False
    # An event about a failure has the time of the last build, which may not have been announced.
    announced = _built_at(payload) if payload.get("status") == "ready" else None
    built = _built_at(build)
    return announced is not None and built is not None and announced >= built


def _built_at(build: Mapping[str, Any]) -> datetime | None:
    text = build.get("last_updated_output_at")
    return timestamp(text) if isinstance(text, str) else None


def find_endpoint(url: str, webhook_endpoints: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the first webhook endpoint with a URL, without its secret; None if there is none."""
    # Faraday may normalize URLs.
    wanted = _normalized(url)
    found = (each for each in webhook_endpoints if _normalized(str(each.get("url"))) == wanted)
    return next(map(without_secret, found), None)


def without_secret(webhook_endpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a webhook endpoint without the secret that signs its messages."""
    return {name: webhook_endpoint[name] for name in _ENDPOINT_FIELDS if name in webhook_endpoint}


def _normalized(url: str) -> tuple[object, ...]:
    try:
        parts = urlsplit(url)
        return (*origin(url), parts.path, parts.query)
    except ValueError:
        return (url,)

"""Faraday's webhooks: the endpoints that receive them, what a message says, and whether a build is new."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from airflow_provider_faraday.api.endpoints import origin
from airflow_provider_faraday.api.inputs import excerpt, is_resource_id
from airflow_provider_faraday.api.resources import RESOURCE_TYPES, ResourceType
from airflow_provider_faraday.api.responses import Response, decode_objects, decode_resource
from airflow_provider_faraday.api.states import ResourceState
from airflow_provider_faraday.api.times import timestamp

READY = "resource.ready_with_update"
ERRORED = "resource.errored"
EVENTS = (READY, ERRORED)

MAX_BODY_BYTES = 64 * 1024
"""The largest message to read. Faraday's have about 200 bytes."""

MAX_BUILD_AGE = timedelta(minutes=10)
"""How long before its message a build may have ended. Clocks differ, and messages are delayed."""

MAX_API_LAG = timedelta(minutes=5)
"""How long after a message Faraday's API may still return the previous build."""

_ENDPOINT_FIELDS = ("id", "url", "enabled_events", "status")


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

    def is_newer_than(self, state: ResourceState, now: datetime) -> bool:
        """Return whether Faraday's API does not return the announced build yet, but the previous one."""
        if self.sent_at is None or not self.resource_type.has_builds or now - self.sent_at >= MAX_API_LAG:
            return False
        built_at = timestamp(state.last_updated_output_at or "")
        return built_at is None or self.sent_at - built_at > MAX_BUILD_AGE


class _Data(msgspec.Struct):
    resource_id: str = ""
    resource_type: str = ""


class _Body(msgspec.Struct):
    type: str
    data: _Data
    timestamp: Any = None


_DECODER = msgspec.json.Decoder(_Body)


def parse_message(body: bytes) -> Message:
    """Parse a message.

    :raises UnknownMessageError: if it is about another event, or about a resource type without assets.
    :raises ValueError: if it is not a message of Faraday.
    """
    try:
        parsed = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(type(error).__name__) from None
    if parsed.type not in EVENTS:
        raise UnknownMessageError(f"unknown event {excerpt(parsed.type)}")
    resource_type = RESOURCE_TYPES.get(parsed.data.resource_type)
    if resource_type is None:
        raise UnknownMessageError(f"unknown resource type {excerpt(parsed.data.resource_type)}")
    if not is_resource_id(parsed.data.resource_id):
        raise ValueError("the resource_id is not a UUID")
    sent_at = timestamp(parsed.timestamp) if isinstance(parsed.timestamp, str) else None
    return Message(parsed.type, resource_type, parsed.data.resource_id.lower(), sent_at)


def is_announced(message_id: str, build: Mapping[str, Any] | None, events: Iterable[Any]) -> bool:
    """Return whether an asset has an event for a message, or for the same build or a later one.

    :param build: the payload of the event that the message would cause, if it is known.
    :param events: the ``extra`` of the asset's recent events, whoever created them.
    """
    built = _built_at(build)
    for extra in events:
        if not isinstance(extra, dict):
            continue
        if extra.get("webhook_id") == message_id:
            return True
        payload = extra.get("payload")
        if not (built and build and isinstance(payload, dict) and payload.get("id") == build["id"]):
            continue
        # An event about a failure has the time of the last build, which may not have been announced.
        announced = _built_at(payload) if payload.get("status") == "ready" else None
        if announced and announced >= built:
            return True
    return False


def _built_at(build: Mapping[str, Any] | None) -> Any:
    text = build and build.get("last_updated_output_at")
    return timestamp(text) if isinstance(text, str) else None


def find_endpoint(url: str, webhook_endpoints: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the first webhook endpoint with a URL; None if there is none. Faraday may normalize URLs."""
    wanted = _normalized(url)
    return next(
        (dict(each) for each in webhook_endpoints if _normalized(str(each.get("url"))) == wanted), None
    )


def _normalized(url: str) -> tuple[object, ...]:
    try:
        parts = urlsplit(url)
        return (*origin(url), parts.path, parts.query)
    except ValueError:
        return (url,)


def decode_endpoints(response: Response) -> list[dict[str, Any]]:
    """Decode a list of webhook endpoints, without their secrets."""
    return [_without_secret(each) for each in decode_objects(response)]


def decode_endpoint(response: Response) -> dict[str, Any]:
    """Decode a webhook endpoint, without its secret."""
    return _without_secret(decode_resource(response))


def _without_secret(endpoint: dict[str, Any]) -> dict[str, Any]:
    return {name: endpoint[name] for name in _ENDPOINT_FIELDS if name in endpoint}

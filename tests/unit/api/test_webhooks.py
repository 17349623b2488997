"""Webhook messages: their signatures, their content, and whether they announce a new build."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.api.webhooks import (
    Message,
    SignatureError,
    UnknownMessageError,
    is_announced,
    parse_message,
    signing_keys,
    verify,
)
from support.ids import CUSTOMERS
from support.webhooks import message, new_secret, signed

SECRET, NEXT_SECRET = new_secret(), new_secret()
KEYS = signing_keys([SECRET, NEXT_SECRET])
NOW = datetime(2026, 1, 31, 6, tzinfo=UTC)
BODY = message(CUSTOMERS)


@pytest.mark.parametrize("prefix", ["webhook", "svix"])
@pytest.mark.parametrize("secret", [SECRET, NEXT_SECRET], ids=["current", "next"])
def test_each_secret_and_prefix_is_accepted(secret: str, prefix: str) -> None:
    headers = signed(secret, BODY, message_id="msg_1", prefix=prefix, age=290)

    assert verify(headers, BODY, KEYS, time.time()) == "msg_1"


@pytest.mark.parametrize("separator", [" ", ",", ", "])
def test_one_valid_signature_of_several_is_enough(separator: str) -> None:
    headers = signed(SECRET, BODY)
    foreign = signed(new_secret(), BODY)["webhook-signature"]
    headers["webhook-signature"] = separator.join(
        [f"v1a,{foreign[3:]}", foreign, headers["webhook-signature"], foreign]
    )

    assert verify(headers, BODY, KEYS, time.time())


@pytest.mark.parametrize(
    "forge",
    [
        lambda good: {"webhook-id": ""},
        lambda good: {"webhook-id": "msg_other"},
        lambda good: {"webhook-timestamp": ""},
        lambda good: {"webhook-timestamp": "1e9"},
        lambda good: {"webhook-timestamp": "9" * 4000},
        lambda good: {"webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)},
        lambda good: {"webhook-signature": ""},
        lambda good: {"webhook-signature": "v1,"},
        lambda good: {"webhook-signature": "v1,%%%"},
        lambda good: {"webhook-signature": good["webhook-signature"].replace("v1,", "v2,")},
        lambda good: {"webhook-signature": "v1,AAAA " * 1000 + good["webhook-signature"]},
        lambda good: signed(new_secret(), BODY),
        lambda good: signed(SECRET, b"{}"),
        lambda good: signed(SECRET, BODY, age=330),
        lambda good: signed(SECRET, BODY, age=-330),
    ],
)
def test_an_unproven_message_is_rejected(forge: Callable[[dict[str, str]], dict[str, str]]) -> None:
    good = signed(SECRET, BODY)
    with pytest.raises(SignatureError):
        verify(good | forge(good), BODY, KEYS, time.time())


def test_nothing_is_accepted_without_a_secret() -> None:
    with pytest.raises(SignatureError):
        verify(signed(SECRET, BODY), BODY, (), time.time())


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"type": 1}', b"[" * 60_000, b'{"a": "\xff"}'])
def test_a_body_that_is_not_a_message_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^\w+$"):
        parse_message(body)


def test_an_id_that_is_not_a_uuid_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="resource_id"):
        parse_message(message("../accounts/current"))


@pytest.mark.parametrize("unknown", [{"event": "resource.created"}, {"resource_type": "dash\nboards" * 999}])
def test_messages_of_later_versions_of_faraday_are_unknown(unknown: dict[str, str]) -> None:
    with pytest.raises(UnknownMessageError) as caught:
        parse_message(message(CUSTOMERS, **unknown))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("sent", [None, 1_790_000_000, "yesterday", "9999-12-31T23:59:59-12:00"])
def test_an_invalid_time_does_not_delay_an_announcement(sent: object) -> None:
    parsed = parse_message(message(CUSTOMERS.upper(), timestamp=sent))

    assert parsed.resource_id == CUSTOMERS
    assert not parsed.is_newer_than(built(NOW - timedelta(days=1)), NOW)


def built(at: datetime | None) -> Any:
    return SimpleNamespace(last_updated_output_at=at and at.isoformat())


@pytest.mark.parametrize(
    ("sent_minutes_ago", "built_minutes_ago", "is_newer"),
    [(4, 13, False), (3, 15, True), (3, None, True), (6, 60, False), (6, None, False)],
)
def test_a_recent_message_is_newer_than_an_earlier_build(
    sent_minutes_ago: int, built_minutes_ago: int | None, is_newer: bool
) -> None:
    sent = NOW - timedelta(minutes=sent_minutes_ago)
    at = None if built_minutes_ago is None else NOW - timedelta(minutes=built_minutes_ago)

    for type_name, expected in (("datasets", is_newer), ("traits", False)):
        parsed = Message("resource.ready_with_update", RESOURCE_TYPES[type_name], CUSTOMERS, sent)
        assert parsed.is_newer_than(built(at), NOW) is expected


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"webhook_id": "msg_1"}, True),
        ({"webhook_id": "msg_2"}, False),
        ({"payload": {"status": "ready", "last_updated_output_at": "2026-01-31T06:00:00.000+00:00"}}, True),
        ({"payload": {"status": "ready", "last_updated_output_at": "2026-02-01T00:00:00Z"}}, True),
        ({"payload": {"status": "ready", "last_updated_output_at": "2026-01-30T06:00:00Z"}}, False),
        ({"payload": {"status": "error", "last_updated_output_at": "2026-01-31T06:00:00Z"}}, False),
        ({"payload": {"status": "ready", "last_updated_output_at": None}}, False),
        ({"payload": {"status": "ready", "last_updated_output_at": []}}, False),
        ({"payload": "text"}, False),
        ("text", False),
    ],
)
def test_a_build_is_announced_by_its_message_or_a_build_as_late(event: Any, expected: bool) -> None:
    build = {"id": CUSTOMERS, "last_updated_output_at": "2026-01-31T06:00:00Z"}
    other = {
        "payload": {"id": "another", "status": "ready", "last_updated_output_at": "2027-01-01T00:00:00Z"}
    }
    if isinstance(event, dict) and isinstance(event.get("payload"), dict):
        event["payload"]["id"] = CUSTOMERS

    assert is_announced("msg_1", build, [other, event]) is expected

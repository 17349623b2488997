"""One HTTP answer as a value, so that it can be looked at, replaced or broken before it is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from airflow_provider_faraday.sandbox.errors import FaradayError


@dataclass(frozen=True)
class Answer:
    """Status, headers (without a length, which the sender adds) and the whole body."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""


def json_answer(status: int, content: object) -> Answer:
    return Answer(status, [("content-type", "application/json")], json.dumps(content).encode())


def error_answer(error: FaradayError) -> Answer:
    return json_answer(error.status, error.body())

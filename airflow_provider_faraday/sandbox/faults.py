"""Answers that go wrong on purpose: what a fault is, which request it befalls, and how it is sent."""

from __future__ import annotations

import asyncio
import re
import threading
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from airflow_provider_faraday.sandbox.answers import Answer, error_answer, json_answer
from airflow_provider_faraday.sandbox.errors import FaradayError

Broken = Literal["invalid_json", "not_utf8", "html", "empty", "truncated", "wrong_length", "dropped"]

# Bodies that arrive whole and mean nothing.
SENSELESS_BODIES: dict[str, tuple[str, bytes]] = {
    "invalid_json": ("application/json", b'[{"id": "d0000000-0000-4000-8000-0000'),
    "not_utf8": ("application/json", b'[{"name": "caf\xe9"}]'),
    "html": ("text/html; charset=utf-8", b"<html><body><h1>Bad gateway</h1></body></html>"),
    "empty": ("application/json", b""),
}


class Fault(BaseModel):
    """What goes wrong with the next answers.

    :param times: with how many of them
    :param path: only where this regular expression is found in the path
    :param method: only for this method
    :param delay: seconds of real time (``--speed`` does not shorten them) to wait before answering
    :param status: answer with this status instead
    :param headers: send these headers too, e.g. ``{"Retry-After": "2"}``
    :param body: answer with this body instead: text as it stands, anything else as JSON. Without it, a
        ``status`` of 400 or above has an error body of Faraday's
    :param broken: break the answer: ``invalid_json``, ``not_utf8``, ``html`` and ``empty`` replace the body,
        ``truncated`` breaks off half-way, ``wrong_length`` announces less than it sends, ``dropped`` closes
        the connection without a word
    :param taken: carry the request out all the same, so that only its answer is lost
    """

    model_config = ConfigDict(extra="forbid")

    times: int = Field(default=1, ge=1)
    path: str | None = None
    method: str | None = None
    delay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    status: int | None = Field(default=None, ge=200, le=599)
    headers: dict[str, str] = {}
    body: Any = None
    broken: Broken | None = None
    taken: bool = False

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str | None) -> str | None:
        try:
            re.compile(path or "")
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from error
        return path

    @property
    def replaces_answer(self) -> bool:
        """Whether the usual answer is not needed."""
        return (
            self.status is not None
            or "body" in self.model_fields_set
            or self.broken in SENSELESS_BODIES
            or self.broken == "dropped"
        )

    def befalls(self, method: str, path: str) -> bool:
        if self.method is not None and self.method.upper() != method:
            return False
        return self.path is None or re.search(self.path, path) is not None

    def answer(self) -> Answer:
        """The answer in place of the usual one."""
        status = self.status or 200
        if self.broken in SENSELESS_BODIES:
            content_type, body = SENSELESS_BODIES[self.broken]
            return Answer(status, [("content-type", content_type)], body)
        if "body" not in self.model_fields_set:
            if status >= 400:
                note = f"The sandbox was told to answer {status} {_phrase(status)}."
                return error_answer(FaradayError(status, note))
            return json_answer(status, None)
        if isinstance(self.body, str):
            return Answer(status, [("content-type", "text/plain; charset=utf-8")], self.body.encode())
        return json_answer(status, self.body)


class Faults:
    """The faults that are still to come; the oldest one that fits a request befalls it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def pending(self) -> list[dict[str, Any]]:
        """What is still to come, ``times`` counted down."""
        with self._lock:
            return [fault.model_dump(exclude_unset=True) | {"times": fault.times} for fault in self._faults]

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for this request, which then has one time less."""
        with self._lock:
            for position, fault in enumerate(self._faults):
                if fault.befalls(method, path):
                    if fault.times == 1:
                        del self._faults[position]
                    else:
                        self._faults[position] = fault.model_copy(update={"times": fault.times - 1})
                    return fault
        return None


def send_broken(transport: asyncio.Transport, answer: Answer, broken: Broken | None) -> None:
    """Put on the wire what no HTTP library would send, and close.

    :param broken: ``truncated`` or ``wrong_length``; with anything else nothing is sent at all
    """
    if broken == "truncated":
        _write(transport, answer, len(answer.body), answer.body[: len(answer.body) // 2])
    elif broken == "wrong_length":
        _write(transport, answer, len(answer.body) // 2, answer.body)
    transport.close()


def _write(transport: asyncio.Transport, answer: Answer, length: int, body: bytes) -> None:
    headers = [*answer.headers, ("content-length", str(length))]
    head = f"HTTP/1.1 {answer.status} {_phrase(answer.status)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers)
    transport.write(head.encode("latin-1") + b"\r\n" + body)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"

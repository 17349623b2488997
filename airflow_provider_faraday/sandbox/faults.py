"""Responses that fail on purpose."""

from __future__ import annotations

import re
from http.client import responses
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.responses import JSONResponse, Response

from airflow_provider_faraday.sandbox.errors import FaradayError

# Content type and body of responses that arrive whole but cannot be decoded.
BROKEN_BODIES: dict[str, tuple[str, bytes]] = {
    "invalid_json": ("application/json", b'[{"id": "d0000000-0000-4000-8000-0000'),
    "not_utf8": ("application/json", b'[{"name": "caf\xe9"}]'),
    "html": ("text/html; charset=utf-8", b"<html><body><h1>Bad gateway</h1></body></html>"),
    "empty": ("application/json", b""),
}


class Fault(BaseModel):
    """A fault in the next matching responses.

    :param times: number of responses to break
    :param path: regular expression to search for in the path; by default any path matches
    :param method: HTTP method to match; by default any
    :param delay: seconds to wait before responding; the sandbox's speed does not shorten them
    :param status: respond with this status. From 400 on, the body defaults to a Faraday error
    :param headers: headers to add or replace, such as ``{"Retry-After": "2"}``
    :param body: respond with this body: a string is sent as text, anything else as JSON
    :param broken: ``invalid_json``, ``not_utf8``, ``html`` and ``empty`` replace the body, ``truncated``
        sends half of it, ``wrong_length`` announces half of its length, ``dropped`` closes the connection
        without a response
    :param processed: process the request anyway, so that only its response is lost
    """

    model_config = ConfigDict(extra="forbid")

    times: int = Field(default=1, ge=1)
    path: str | None = None
    method: str | None = None
    delay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    status: int | None = Field(default=None, ge=200, le=599)
    headers: dict[str, str] = {}
    body: Any = None
    broken: (
        Literal["invalid_json", "not_utf8", "html", "empty", "truncated", "wrong_length", "dropped"] | None
    ) = None
    processed: bool = False

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str | None) -> str | None:
        try:
            re.compile(path or "")
        except re.error as error:
            raise ValueError(f"not a valid regular expression: {error}") from error
        return path

    @property
    def replaces_response(self) -> bool:
        """Whether the response to send does not depend on the original one."""
        replaced = self.broken == "dropped" or self.broken in BROKEN_BODIES
        return replaced or self.status is not None or "body" in self.model_fields_set

    def matches(self, method: str, path: str) -> bool:
        if self.method is not None and self.method.upper() != method:
            return False
        return self.path is None or re.search(self.path, path) is not None

    def response(self) -> Response:
        """Return the response that replaces the original one."""
        status = self.status or 200
        if self.broken in BROKEN_BODIES:
            media_type, body = BROKEN_BODIES[self.broken]
            return Response(body, status, media_type=media_type)
        if status in (204, 304):
            return Response(status_code=status)
        if "body" not in self.model_fields_set and status >= 400:
            return FaradayError(status, f"Simulated {status} {responses.get(status, 'Unknown')}.").response()
        if isinstance(self.body, str):
            return Response(self.body, status, media_type="text/plain")
        return JSONResponse(self.body, status)

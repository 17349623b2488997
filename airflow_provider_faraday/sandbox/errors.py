"""Errors in the format of the Faraday API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from starlette.responses import JSONResponse

DEFAULT_CODES = {
    400: "BAD_REQUEST",
    401: "MALFORMED_API_KEY",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    409: "CONFLICT",
}


class FaradayError(Exception):
    """A Faraday error response.

    :param status: HTTP status
    :param note: human-readable description
    :param code: Faraday error code; defaults to the generic code for the status
    :param validation_errors: one entry per invalid part of the request
    """

    def __init__(
        self,
        status: int,
        note: str,
        *,
        code: str | None = None,
        validation_errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(note)
        self.status = status
        self.note = note
        self.code = code or DEFAULT_CODES.get(
            status, "BAD_REQUEST" if status < 500 else "INTERNAL_SERVER_ERROR"
        )
        self.validation_errors = list(validation_errors)

    def response(self, headers: Mapping[str, str] | None = None) -> JSONResponse:
        """Return the HTTP response, with a new error id each time."""
        body: dict[str, Any] = {"error": self.code, "id": str(uuid4()), "note": self.note}
        if self.validation_errors:
            body["validationErrors"] = self.validation_errors
        return JSONResponse(body, self.status, headers)

"""Faraday's error answers: which status and code mean what, and the JSON body that carries them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

# The code that Faraday sends with a status when nothing more specific is known.
CODE_OF_STATUS = {
    400: "BAD_REQUEST",
    401: "MALFORMED_API_KEY",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    409: "CONFLICT",
    500: "INTERNAL_SERVER_ERROR",
}


class FaradayError(Exception):
    """An answer that is not a success.

    :param status: HTTP status
    :param note: a sentence for people
    :param code: Faraday's error code; by default the general one of the status
    :param validation_errors: what is wrong with which part of the request
    """

    def __init__(
        self,
        status: int,
        note: str,
        *,
        code: str | None = None,
        validation_errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(note)
        self.status = status
        self.note = note
        general = "BAD_REQUEST" if status < 500 else "INTERNAL_SERVER_ERROR"
        self.code = code or CODE_OF_STATUS.get(status, general)
        self.validation_errors = validation_errors

    def body(self) -> dict[str, Any]:
        """The JSON body; each has an id of its own, as support would ask for it."""
        body: dict[str, Any] = {"error": self.code, "id": str(uuid4()), "note": self.note}
        if self.validation_errors is not None:
            body["validationErrors"] = self.validation_errors
        return body


def invalid(path: str, message: str, *, error_type: str = "format") -> FaradayError:
    """The 400 that names one wrong part of a request."""
    return FaradayError(
        400,
        f"The request is not valid: {path} {message}.",
        code="VALIDATION_FAILED",
        validation_errors=[{"path": path, "message": message, "context": {"errorType": error_type}}],
    )


def not_found(what: str, resource_id: str) -> FaradayError:
    """The 404 for a resource that the account does not have."""
    return FaradayError(404, f"There is no {what} with the id {resource_id} in this account.")

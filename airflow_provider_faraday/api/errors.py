"""Everything that can go wrong between this provider and Faraday."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class FaradayError(Exception):
    """Base of every error that this provider raises about its configuration, its input or Faraday's API."""


class FaradayConfigurationError(FaradayError):
    """The Airflow connection is not valid. Nothing was sent."""


class FaradayInputError(FaradayError, ValueError):
    """An argument is not valid.

    Raised before anything is sent, unless ``updated_after`` has no time for a resource that Faraday returns.
    """


class FaradayApiError(FaradayError):
    """A request to Faraday failed.

    As text, the first line says what happened; the second says what to do, and identifies the request. The
    fields follow https://faraday.ai/docs/reference and are None or empty if Faraday did not send them.

    :param message: what happened, in one sentence.
    :param remedy: what to do about it.
    :param method: HTTP method of the request.
    :param path: path of the request, below the base URL.
    :param status_code: HTTP status; None without a complete response.
    :param error_code: Faraday's ``error``, such as ``EXPIRED_API_KEY``.
    :param error_id: Faraday's ``id`` of this error, which Faraday's support asks for.
    :param note: Faraday's ``note``.
    :param validation_errors: Faraday's ``validationErrors``.
    :param retry_after: seconds to wait before the next request, from the ``Retry-After`` header.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        method: str = "",
        path: str = "",
        status_code: int | None = None,
        error_code: str | None = None,
        error_id: str | None = None,
        note: str | None = None,
        validation_errors: Sequence[dict[str, Any]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.method = method
        self.path = path
        self.status_code = status_code
        self.error_code = error_code
        self.error_id = error_id
        self.note = note
        self.validation_errors = list(validation_errors)
        self.retry_after = retry_after
        self.attempts = 1

    def __str__(self) -> str:
        details = (
            f"{self.method} {self.path}" if self.path else "",
            f"{self.attempts} attempts" if self.attempts > 1 else "",
            f"Faraday error id {self.error_id}" if self.error_id else "",
        )
        reference = ", ".join(filter(None, details))
        second_line = " ".join(filter(None, (self.remedy, reference and f"({reference})")))
        return "\n".join(filter(None, (super().__str__(), second_line)))


class FaradayAuthenticationError(FaradayApiError):
    """Faraday returned 401: it does not accept the API key."""


class FaradayNotFoundError(FaradayApiError):
    """Faraday returned 404, or did not return a resource that was requested by id."""


class FaradayTransportError(FaradayApiError):
    """There is no complete response: connecting failed, timed out, or the response broke off.

    :param request_sent: whether Faraday may have received the request.
    """

    def __init__(self, message: str, *, request_sent: bool = True, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.request_sent = request_sent


class FaradayResponseError(FaradayApiError):
    """Faraday's response does not match its reference.

    :param broken: whether the body is not JSON at all, so that a retry may help. JSON in an unexpected format
        does not get better.
    """

    def __init__(self, message: str, *, broken: bool = False, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.broken = broken

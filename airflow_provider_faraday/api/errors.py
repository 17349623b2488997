"""What can go wrong between this provider and Faraday, whatever scheduler runs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class FaradayError(Exception):
    """Base of every error that this provider raises about its configuration, its input or Faraday's API."""


class FaradayConfigurationError(FaradayError):
    """The Airflow connection cannot be used as it stands."""


class FaradayInputError(FaradayError, ValueError):
    """An argument of a call, an operator or a sensor cannot be used."""


class FaradayApiError(FaradayError):
    """A call to Faraday failed.

    The fields follow https://faraday.ai/docs/reference (errors); each is None (or empty) where Faraday did
    not send it.

    :param message: a sentence: what was asked, what came back, what to do.
    :param method: HTTP method of the call.
    :param path: path of the call below the base URL.
    :param status_code: HTTP status, None where no whole answer came.
    :param error_code: Faraday's ``error``, such as ``EXPIRED_API_KEY``.
    :param error_id: Faraday's ``id`` of this very error; Faraday's support asks for it.
    :param note: Faraday's ``note``, a sentence for people.
    :param validation_errors: Faraday's ``validationErrors``.
    :param retry_after: seconds that the answer asked to wait before the next request.
    """

    def __init__(
        self,
        message: str,
        *,
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
        message = super().__str__()
        return f"{message} (Tried {self.attempts} times.)" if self.attempts > 1 else message


class FaradayAuthenticationError(FaradayApiError):
    """Faraday answered 401: it does not accept the key."""


class FaradayNotFoundError(FaradayApiError):
    """Faraday answered 404, or left out a dataset that was asked for by its id."""


class FaradayConnectionError(FaradayApiError):
    """No whole answer came: the connection failed, timed out or broke off.

    :param request_sent: whether Faraday may have taken the request.
    """

    def __init__(self, message: str, *, request_sent: bool = True, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.request_sent = request_sent


class FaradayResponseError(FaradayApiError):
    """A whole answer came that is not what the reference promises.

    :param broken: True where the body is no JSON at all (so that asking again may help), False where it is
        JSON of another shape (where it will not).
    """

    def __init__(self, message: str, *, broken: bool = False, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.broken = broken

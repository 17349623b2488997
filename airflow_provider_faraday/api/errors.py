"""The errors of this provider, and functions that create those about requests."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from airflow_provider_faraday.api.text import shortened

E = TypeVar("E", bound="FaradayApiError")

_REMEDIES = {
    400: "Check the arguments of the task.",
    401: "Set a new key as the password of the Airflow connection '{}'.",
    403: "Check that the Airflow connection '{}' is for the right account, and any proxy in between.",
    404: "Check the id, and that the Airflow connection '{}' is for the account that owns it.",
    407: "Check the extra 'proxy' of the Airflow connection '{}', or the proxy environment variables.",
    409: "Check the state of the resource in Faraday.",
    429: "Poll less often, or from fewer tasks.",
}
TRY_LATER = "Try again later. If the error persists, contact Faraday's support."
_HOST = "Check that the host of the Airflow connection '{}' is Faraday's API."
_NETWORK = (
    "Check the network, and the host and the extras 'proxy', 'verify' and 'timeout' of the Airflow "
    "connection '{}'."
)


class FaradayError(Exception):
    """Base of every error that this provider raises about its configuration, its input or Faraday's API."""


class FaradayConfigurationError(FaradayError):
    """The Airflow connection is not valid. Nothing was sent."""


class FaradayInputError(FaradayError, ValueError):
    """An argument is not valid.

    Raised before anything is sent, unless ``updated_after`` has no time for a resource that Faraday returns,
    a file changes during its upload, or the target to download is archived or was never built.
    """


class FaradayLookupError(FaradayError):
    """A name does not identify one resource: no resource that is not archived has it, or several have."""


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
    """Faraday returned 401, or ``INVALID_AUTHORIZATION``: it does not accept the API key."""


class FaradayNotFoundError(FaradayApiError):
    """Faraday returned 404, or did not return a resource that was requested by id.

    Also raised if no dataset reads one of ``tables`` or an upload directory.
    """


class FaradayTransportError(FaradayApiError):
    """There is no complete response: connecting failed, timed out, or the response broke off.

    :param request_sent: whether Faraday may have received the request.
    """

    def __init__(self, message: str, *, request_sent: bool = True, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.request_sent = request_sent


class FaradayResponseError(FaradayApiError):
    """Faraday's response does not match its reference.

    :param broken: whether the body is not valid JSON, so that a retry may help. Retrying does not help if the
        format is unexpected.
    """

    def __init__(self, message: str, *, broken: bool = False, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.broken = broken


class Request(NamedTuple):
    """A request, as clients send it and as errors describe it.

    :param path: the path below the base URL.
    :param url: the absolute URL. That of a redirected download may hold a secret.
    :param conn_id: id of the Airflow connection.
    :param redact: removes secrets from what an error quotes: a server may echo the request.
    :param private: whether the response may hold a secret, so that errors must not quote it.
    :param content_type: that of the payload; by default JSON.
    :param is_faraday: whether the URL is on the configured server.
    :param has_proxy: whether it is sent through an HTTP proxy.
    """

    method: str
    path: str
    url: str
    conn_id: str
    redact: Callable[[str], str] = str
    private: bool = False
    content_type: str | None = None
    is_faraday: bool = True
    has_proxy: bool = False


def api_error(kind: type[E], request: Request, message: str, remedy: str = "", **fields: Any) -> E:
    """Return an error about a request.

    :param remedy: by default that for the class and the status.
    """
    status = fields.get("status_code", 0)
    default = _REMEDIES.get(status, TRY_LATER if status >= 500 else _HOST)
    if issubclass(kind, FaradayTransportError):
        default = _NETWORK
    elif issubclass(kind, FaradayAuthenticationError):
        default = _REMEDIES[401]
    remedy = remedy or default.format(request.conn_id)
    return kind(message, remedy=remedy, method=request.method, path=request.path, **fields)


def transport_error(request: Request, cause: BaseException, *, request_sent: bool) -> FaradayTransportError:
    """Return the error for a request without a complete response.

    :param cause: the innermost exception of the HTTP library.
    :param request_sent: whether Faraday may have received the request.
    """
    server = urlsplit(request.url).netloc.rpartition("@")[2]
    server = f"Faraday at {server}" if request.is_faraday else f"{server} (where Faraday redirected to)"
    what = "No complete response from" if request_sent else "Could not connect to"
    through = " through the HTTP proxy" if request.has_proxy else ""
    # What another server sends may quote the signed URL, in any form.
    quotable = request.is_faraday or isinstance(cause, OSError)
    text = request.redact((quotable and _text(cause)) or type(cause).__name__)
    message = f"{what} {server}{through}: {shortened(text.strip().rstrip('.'))}."
    return api_error(FaradayTransportError, request, message, request_sent=request_sent)


def lookup_error(conn_id: str, cause: BaseException) -> FaradayError:
    """Return the error for an Airflow connection that could not be looked up, or is not valid.

    It does not quote the failure of a secrets backend or of Airflow's API, which may contain a secret.
    """
    if isinstance(cause, FaradayError):
        return cause
    return FaradayTransportError(
        f"The Airflow connection '{conn_id}' could not be looked up: {type(cause).__name__}.",
        request_sent=False,
    )


def _text(cause: BaseException) -> str:
    if isinstance(cause, ConnectionError) and cause.errno:
        # The HTTP libraries word it in different ways.
        return os.strerror(cause.errno)
    return str(cause)

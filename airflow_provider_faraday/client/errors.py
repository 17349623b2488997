"""Errors of sending a request, and how to fix each API error in Airflow."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any

from airflow_provider_faraday.api.endpoints import origin
from airflow_provider_faraday.api.errors import (
    FaradayApiError,
    FaradayConfigurationError,
    FaradayError,
    FaradayResponseError,
    FaradayTransportError,
)
from airflow_provider_faraday.api.responses import Request
from airflow_provider_faraday.api.text import shortened
from airflow_provider_faraday.client.config import ClientConfig

MAX_BODY_BYTES = 512 * 1024 * 1024
"""The largest response to read, decompressed: about 150,000 datasets."""

_REMEDIES = {
    400: "Check the arguments of the task.",
    401: "Set a new key as the password of the Airflow connection '{}'.",
    403: "Check that the Airflow connection '{}' is for the right account, and any proxy in between.",
    404: "Check the id, and that the Airflow connection '{}' is for the account that owns it.",
    407: "Check the extra 'proxy' of the Airflow connection '{}', or the proxy environment variables.",
    429: "Poll less often, or from fewer tasks.",
}
_SERVER = "Try again later. If the error persists, contact Faraday's support."
_HOST = "Check that the host of the Airflow connection '{}' is Faraday's API."
_NETWORK = (
    "Check the network, and the host and the extras 'proxy', 'verify' and 'timeout' of the Airflow "
    "connection '{}'."
)
_TIMEOUT = "If this is expected, increase the extra 'timeout' of the Airflow connection '{}'."


def final(error: FaradayError, config: ClientConfig, statistics: Mapping[str, Any]) -> FaradayError:
    """Return an error as a client raises it: with the number of attempts, and with what to do about it.

    :param statistics: those of tenacity.
    """
    if not isinstance(error, FaradayApiError):
        return error
    error.attempts = statistics.get("attempt_number", 1)
    if not error.remedy:
        status = error.status_code or 0
        if isinstance(error, FaradayTransportError):
            remedy = _NETWORK
        elif isinstance(error, FaradayResponseError) or status not in _REMEDIES:
            remedy = _SERVER if status >= 500 else _HOST
        else:
            remedy = _REMEDIES[status]
        error.remedy = remedy.format(config.conn_id)
    return error


def transport_error(
    request: Request, config: ClientConfig, cause: BaseException, *, request_sent: bool
) -> FaradayTransportError:
    """Return the error for a request without a complete response.

    :param cause: the innermost exception of the HTTP library.
    :param request_sent: whether Faraday may have received the request.
    """
    _, host, port = origin(request.url)
    is_faraday = origin(request.url) == origin(config.base_url)
    server = f"Faraday at {host}:{port}" if is_faraday else f"{host}:{port} (where Faraday redirected to)"
    what = "No complete response from" if request_sent else "Could not connect to"
    through = " through the HTTP proxy" if config.proxy else ""
    # What another server sends may quote the signed URL, in any form.
    text = _reason(cause) if is_faraday or isinstance(cause, OSError) else type(cause).__name__
    reason = shortened(config.redact(text).strip().rstrip("."))
    return FaradayTransportError(
        f"{what} {server}{through}: {reason}.",
        request_sent=request_sent,
        **request.fields,
    )


def response_timeout(request: Request, config: ClientConfig) -> FaradayTransportError:
    """Return the error for a response that takes longer than a whole response may."""
    return FaradayTransportError(
        f"Faraday's response timed out after {config.response_seconds:.0f} seconds.",
        remedy=_TIMEOUT.format(config.conn_id),
        **request.fields,
    )


def too_large(request: Request) -> FaradayResponseError:
    """Return the error for a response that is larger than a response may be."""
    return FaradayResponseError(
        f"Faraday's response is larger than {MAX_BODY_BYTES:,} bytes.", **request.fields
    )


def bad_url(request: Request, config: ClientConfig, cause: Exception) -> FaradayError:
    """Return the error for a URL, of Faraday, of a redirect or of a proxy, that an HTTP library rejects."""
    if origin(request.url) != origin(config.base_url):
        return FaradayResponseError("Faraday redirected to a URL that is not valid.", **request.fields)
    return FaradayConfigurationError(
        f"The Airflow connection '{config.conn_id}' is not valid: {shortened(config.redact(str(cause)))}\n"
        "Check its host and its extra 'proxy'."
    )


def _reason(cause: BaseException) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {cause.verify_message}"
    if isinstance(cause, ConnectionError) and cause.errno:
        # The HTTP libraries word it in different ways.
        return os.strerror(cause.errno)
    text = (isinstance(cause, OSError) and cause.strerror) or str(cause) or type(cause).__name__
    return f"{cause.filename}: {text}" if isinstance(cause, OSError) and cause.filename else text

"""The configuration of a client, from an Airflow connection of type ``faraday``."""

from __future__ import annotations

import json
import logging
import os
import re
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from airflow_provider_faraday.api.endpoints import Endpoint
from airflow_provider_faraday.api.errors import FaradayConfigurationError, Request
from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.api.webhooks import signing_keys

if TYPE_CHECKING:
    from airflow.models.connection import Connection as StoredConnection
    from airflow.providers.common.compat.sdk import Connection

log = logging.getLogger(__name__)

DEFAULT_BASE_URL = "https://api.faraday.ai/v1"
_MAX_SECONDS = 86_400
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """An Airflow connection of type ``faraday`` that was checked.

    :param conn_id: id of the Airflow connection, for errors.
    :param api_key: Faraday's API key.
    :param base_url: absolute, without a trailing slash.
    :param connect_seconds: timeout to connect, TLS included.
    :param read_seconds: timeout between two parts of a response.
    :param max_attempts: how often to send a request that fails transiently.
    :param proxy: URL of the extra ``proxy``, if it is set.
    :param verify: whether to verify certificates, or the path of a CA bundle; None for the environment's.
    :param allow_http: whether plain http is allowed to hosts other than this machine.
    :param webhook_secret: the keys that Faraday signs webhooks with.
    :param ca_version: differs when the CA bundle was changed.
    """

    conn_id: str
    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    connect_seconds: float = 10.0
    read_seconds: float = 60.0
    max_attempts: int = 5
    proxy: str | None = field(default=None, repr=False)
    verify: bool | str | None = None
    allow_http: bool = False
    webhook_secret: tuple[bytes, ...] = field(default=(), repr=False)
    ca_version: tuple[int, ...] = ()

    def request(self, endpoint: Endpoint) -> Request:
        """Return the request for an endpoint."""
        return Request(
            endpoint.method,
            endpoint.path,
            endpoint.url(self.base_url),
            self.conn_id,
            self.redact,
            private=endpoint.private,
            content_type=endpoint.content_type,
            has_proxy=bool(self.proxy_url),
        )

    @cached_property
    def proxy_url(self) -> str | None:
        """URL of the proxy for requests to Faraday: of the extra, otherwise of the environment.

        :raises FaradayConfigurationError: if that of the environment is not valid.
        """
        # Not at the top: a DAG file that imports the hook must not load an HTTP library.
        from airflow_provider_faraday.client.environment import environment_proxy

        if self.proxy:
            return self.proxy
        url = environment_proxy(self.base_url)
        if url and not _is_proxy_url(url):
            raise FaradayConfigurationError(
                "The proxy in the environment is not valid.\n"
                "Check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY. "
                "Special characters in its password must be percent-encoded."
            )
        return url

    def redact(self, text: str) -> str:
        """Return text in one line, without the API key and the proxy's password."""
        return one_line(self._secrets.sub("***", text))

    @cached_property
    def _secrets(self) -> re.Pattern[str]:
        secrets = [self.api_key]
        proxy = urlsplit(self.proxy_url or "")
        if proxy.password:
            password = unquote(proxy.password)
            # The pair is what Basic authentication encodes.
            secrets += [password, proxy.password, f"{unquote(proxy.username or '')}:{password}"]
        forms = {form for secret in secrets for form in _forms(secret)}
        return re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))), re.IGNORECASE)


def _forms(secret: str) -> set[str]:
    """Return a secret as it is, URL-quoted, escaped as in JSON, and in Base64."""
    encoded = b64encode(secret.encode()).decode().rstrip("=")
    return {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], encoded}


def client_config(connection: Connection | StoredConnection, *, warn: bool = True) -> ClientConfig:
    """Check an Airflow connection, and return the configuration of a client.

    It reads ``extra``, because ``extra_dejson`` blocks inside a trigger on Airflow 3.

    :param warn: whether to log unknown extras.
    :raises FaradayConfigurationError: about the first field that is not valid.
    """
    conn_id = str(connection.conn_id)
    try:
        extra = _extra(connection.extra, conn_id, warn=warn)
        allow_http = extra.pop("allow_http", False)
        if timeout := extra.pop("timeout", None):
            extra |= {"connect_seconds": timeout, "read_seconds": timeout}
        bundle = ca_bundle(extra.get("verify"))
        return ClientConfig(
            conn_id=conn_id,
            api_key=_api_key(connection.password),
            base_url=_base_url(connection.host, connection.schema, connection.port, allow_http),
            allow_http=allow_http,
            ca_version=_version(bundle) if bundle else (),
            **extra,
        )
    except _FieldError as error:
        raise FaradayConfigurationError(f"The Airflow connection '{conn_id}' is not valid: {error}") from None


def log_new_fields(conn_id: str) -> None:
    """Log that an Airflow connection has changed."""
    log.info("The Airflow connection '%s' has a new API key or other new fields. Using them.", conn_id)


def ca_bundle(verify: bool | str | None) -> str | None:
    """Return the path of the CA bundle; None for that of requests, or if certificates are not verified."""
    if isinstance(verify, str) or verify is False:
        return verify or None
    # As in requests, so that workers and triggerer trust the same certificates.
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")


def _version(path: str) -> tuple[int, ...]:
    try:
        status = Path(path).stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns


class _FieldError(ValueError):
    """What is wrong with a field, then what to do about it. Never quotes a key or a whole URL."""


def _api_key(password: Any) -> str:
    key = str(password or "").strip()
    if not key:
        raise _FieldError(
            "it has no API key.\nSet a key from https://app.faraday.ai/settings as its password."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise _FieldError(
            "the API key in its password contains spaces, control characters or non-ASCII characters.\n"
            "Copy the key again from https://app.faraday.ai/settings."
        )
    return key


def _base_url(host: Any, schema: Any, port: Any, allow_http: bool) -> str:
    text = str(host or "").strip()
    if not (text or port):
        return DEFAULT_BASE_URL
    try:
        parts = urlsplit(text if "://" in text else f"{schema or 'https'}://{text}")
        if port and not parts.port:
            parts = parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{port}")
        is_server = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_server = False
    if (
        not is_server
        or parts.scheme not in ("http", "https")
        or parts.query
        or parts.fragment
        or re.search(r"[^!-~]|@", parts.netloc + parts.path)
    ):
        raise _FieldError(
            "its host, with the schema and the port, is not an http or https URL without a user, query or "
            f"fragment.\nLeave them empty, or set the host to a URL such as {DEFAULT_BASE_URL}."
        )
    if parts.scheme == "http" and not (allow_http or parts.hostname in _THIS_MACHINE):
        raise _FieldError(
            f"its host uses plain http ({parts.hostname}), which exposes the API key to the network.\n"
            'Use https, or set the extra "allow_http": true if you trust the network.'
        )
    return parts._replace(path=parts.path.rstrip("/") or urlsplit(DEFAULT_BASE_URL).path).geturl()


def _extra(text: Any, conn_id: str, *, warn: bool) -> dict[str, Any]:
    try:
        extra = (json.loads(text) if isinstance(text, str) and text.strip() else text) or {}
    except (ValueError, RecursionError):
        extra = None
    if not isinstance(extra, dict):
        raise _FieldError(
            'its extra is not a JSON object.\nUse one such as {"timeout": 30}, or leave it empty.'
        )
    unknown = sorted(str(name) for name in extra if name not in _EXTRAS)
    if unknown and warn:
        log.warning(
            "The Airflow connection '%s' has unknown extras, which are ignored: %s. Known extras: %s.",
            conn_id,
            ", ".join(unknown),
            ", ".join(_EXTRAS),
        )
    # Airflow's form stores all fields: null or an empty string for those that were not set.
    given = {name: value for name, value in extra.items() if name in _EXTRAS and value not in (None, "")}
    return {name: _read_extra(name, value) for name, value in given.items()}


def _read_extra(name: str, value: Any) -> Any:
    read, what = _EXTRAS[name]
    try:
        return read(value.strip() if isinstance(value, str) else value)
    # With msgspec 0.19, a ValidationError is not a ValueError.
    except (ValueError, msgspec.ValidationError):
        # Without the value, which may be a secret.
        raise _FieldError(f"its extra '{name}' is not valid.\nUse {what}.") from None


def _convert_to(kind: Any) -> Callable[[Any], Any]:
    """Return a function that converts a value, or a string, to a type."""
    return partial(msgspec.convert, type=kind, strict=False)


def _is_proxy_url(url: str) -> bool:
    """Return whether a URL is that of a proxy.

    Otherwise, a part of its password would be taken for the host or the port, which errors quote.
    """
    try:
        parts = urlsplit(url)
        is_server = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    rest = parts.path + parts.query + parts.fragment
    return is_server and "@" not in rest and not re.search(r"[\s\\]", url)


def _proxy(value: Any) -> str:
    url = str(value)
    if not _is_proxy_url(url) or urlsplit(url).scheme not in ("http", "https"):
        raise ValueError
    return url


def _verify(value: Any) -> Any:
    with suppress(msgspec.ValidationError):
        return msgspec.convert(value, bool, strict=False)
    if not (isinstance(value, str) and os.access(value, os.R_OK)):
        raise ValueError
    return value


_EXTRAS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "timeout": (
        _convert_to(Annotated[float, msgspec.Meta(gt=0, le=_MAX_SECONDS)]),
        "a number of seconds greater than 0, at most a day",
    ),
    "max_attempts": (_convert_to(Annotated[int, msgspec.Meta(ge=1)]), "an integer, 1 or greater"),
    "proxy": (_proxy, "the URL of an HTTP proxy, such as http://proxy.example:3128"),
    "verify": (_verify, "true, false or the path of a CA bundle on this machine"),
    "allow_http": (_convert_to(bool), "true or false"),
    "webhook_secret": (
        signing_keys,
        "the secret of the webhook endpoint in Faraday, whsec_…, or a list of them",
    ),
}

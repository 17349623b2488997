"""From the fields of an Airflow connection of type ``faraday`` to a checked client configuration."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from airflow_provider_faraday.api.config import (
    CONNECT_SECONDS,
    DEFAULT_BASE_URL,
    MAX_ATTEMPTS,
    READ_SECONDS,
    ClientConfig,
)
from airflow_provider_faraday.api.errors import FaradayConfigurationError

log = logging.getLogger(__name__)

_MOST_SECONDS = 86_400


class AirflowConnection(Protocol):
    """The fields that are read of an Airflow ``Connection``.

    ``extra`` is its text: ``extra_dejson`` blocks inside a trigger on Airflow 3.
    """

    conn_id: Any
    host: Any
    schema: Any
    port: Any
    password: Any

    @property
    def extra(self) -> Any:
        """The extra, as JSON text."""


def client_config(connection: AirflowConnection) -> ClientConfig:
    """Check an Airflow connection and give what a client needs of it.

    :raises FaradayConfigurationError: with a sentence about the first field that cannot be used.
    """
    conn_id = str(connection.conn_id)
    try:
        extra = _extra(connection.extra, conn_id)
        return ClientConfig(
            conn_id=conn_id,
            api_key=_api_key(connection.password),
            base_url=_base_url(
                connection.host, connection.schema, connection.port, extra.get("allow_http", False)
            ),
            connect_seconds=extra.get("timeout", CONNECT_SECONDS),
            read_seconds=extra.get("timeout", READ_SECONDS),
            max_attempts=extra.get("max_attempts", MAX_ATTEMPTS),
            proxy=extra.get("proxy"),
            verify=extra.get("verify"),
        )
    except _FieldError as error:
        message = f"Airflow connection '{conn_id}' cannot be used: {error}"
    raise FaradayConfigurationError(message)


class _FieldError(ValueError):
    """A sentence about one field; never with the key or a whole URL in it."""


def _api_key(password: Any) -> str:
    key = str(password or "").strip()
    if not key:
        raise _FieldError(
            "it has no API key. Put one from https://app.faraday.ai/settings into its password field."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise _FieldError(
            "the API key in its password has white space, control characters or other characters "
            "that no key has. Copy the key again from https://app.faraday.ai/settings."
        )
    return key


def _base_url(host: Any, schema: Any, port: Any, allow_http: bool) -> str:
    text = str(host or "").strip()
    scheme = str(schema or "").strip().lower()
    if scheme not in ("", "http", "https"):
        raise _FieldError(f"its schema is '{scheme}', but must be http or https, or empty for https.")
    if not text:
        if scheme == "http" or port:
            raise _FieldError(
                "it has a schema or a port but no host. Set the host, or leave all three empty."
            )
        return DEFAULT_BASE_URL
    parts = _split(text if "://" in text else f"{scheme or 'https'}://{text}")
    if scheme and scheme != parts.scheme:
        raise _FieldError(f"its host says {parts.scheme}, its schema {scheme}. Leave the schema empty.")
    hostname = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    number = parts.port
    if port:
        number = _port(port)
        if parts.port not in (None, number):
            raise _FieldError(
                f"its host says port {parts.port}, its port field {port}. Leave the port empty."
            )
    if parts.scheme == "http" and not (allow_http or _is_loopback(str(parts.hostname))):
        raise _FieldError(
            f"its host is plain http ({parts.hostname}), which would show the API key to the network. "
            'Use https, or set the extra "allow_http": true if the network is trusted.'
        )
    netloc = f"{hostname}:{number}" if number else hostname
    return f"{parts.scheme}://{netloc}{parts.path.rstrip('/') or urlsplit(DEFAULT_BASE_URL).path}"


def _port(port: Any) -> int:
    try:
        number = int(port)
    except (ValueError, TypeError):
        number = 0
    if not 1 <= number <= 65535:
        raise _FieldError(f"its port is {str(port)[:40]!r}, but must be a number from 1 to 65535, or empty.")
    return number


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isascii() or any(character.isspace() for character in url):
        raise _FieldError(
            f"its host is no host name or URL. Leave it empty, or give a URL such as {DEFAULT_BASE_URL}."
        )
    if parts.scheme not in ("http", "https"):
        raise _FieldError(f"its host is a {parts.scheme} URL, but must be https (or http to this machine).")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise _FieldError("its host is a URL with a user, query or fragment. The key goes into the password.")
    return parts


def _is_loopback(hostname: str) -> bool:
    try:
        return ip_address(hostname).is_loopback
    except ValueError:
        return hostname == "localhost" or hostname.endswith(".localhost")


def _extra(text: Any, conn_id: str) -> dict[str, Any]:
    try:
        extra = (json.loads(text) if isinstance(text, str) and text.strip() else text) or {}
    except (ValueError, RecursionError):
        extra = None
    if not isinstance(extra, dict):
        raise _FieldError('its extra is no JSON object. Write it like {"timeout": 30}, or leave it empty.')
    unknown = sorted(str(name) for name in extra if name not in _EXTRAS)
    if unknown:
        log.warning(
            "Airflow connection '%s' has extras that this provider does not know and does not use: %s. "
            "It knows %s.",
            conn_id,
            ", ".join(unknown),
            ", ".join(_EXTRAS),
        )
    # The connection form stores every field, with null or an empty text for those left alone.
    given = {name: value for name, value in extra.items() if name in _EXTRAS and value not in (None, "")}
    return {name: _read_extra(name, value) for name, value in given.items()}


def _read_extra(name: str, value: Any) -> Any:
    read, what = _EXTRAS[name]
    try:
        return read(value)
    except (ValueError, TypeError, KeyError, OverflowError):
        pass
    shown = "" if name == "proxy" else f" (it is {str(value)[:60]!r})"
    raise _FieldError(f"its extra '{name}' must be {what}{shown}.")


def _seconds(value: Any) -> float:
    seconds = float(_no_bool(value))
    if not 0 < seconds <= _MOST_SECONDS:
        raise ValueError
    return seconds


def _attempts(value: Any) -> int:
    attempts = int(_no_bool(value))
    if attempts < 1 or attempts != float(value):
        raise ValueError
    return attempts


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError
    return value


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}[str(value).strip().lower()]


def _proxy(value: Any) -> str:
    parts = urlsplit(str(value).strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError
    return str(value).strip()


def _verify(value: Any) -> bool | str:
    try:
        return _bool(value)
    except KeyError:
        pass
    if not isinstance(value, str) or not Path(value).exists():
        raise ValueError
    return value


_EXTRAS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "timeout": (_seconds, "a number of seconds above 0, a day at most"),
    "max_attempts": (_attempts, "a whole number, 1 or more"),
    "proxy": (_proxy, "the URL of an HTTP proxy, such as http://proxy.example:3128"),
    "verify": (_verify, "true, false or the path of a CA bundle that exists on this machine"),
    "allow_http": (_bool, "true or false"),
}

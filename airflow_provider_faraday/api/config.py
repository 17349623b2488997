"""What a client must know to talk to Faraday, and how it keeps its secrets out of texts."""

from __future__ import annotations

import html
import re
from base64 import b64encode
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urlsplit

from airflow_provider_faraday.api.texts import one_line

DEFAULT_BASE_URL = "https://api.faraday.ai/v1"
CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
MAX_ATTEMPTS = 5
BODY_TIMEOUTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """A checked Airflow connection of type ``faraday``, as the transports use it.

    :param conn_id: the Airflow connection's id, named in errors.
    :param api_key: Faraday's API key.
    :param base_url: absolute, without a trailing slash.
    :param connect_seconds: longest wait for a TCP and TLS connection.
    :param read_seconds: longest silence while an answer is awaited or read.
    :param max_attempts: requests that one call may cost where failures are transient.
    :param proxy: URL of an HTTP proxy, None for what the environment says.
    :param verify: True or False to check certificates or not, a path of a CA bundle, None for what the
        environment says (checked, against ``REQUESTS_CA_BUNDLE`` where that is set).
    """

    conn_id: str
    api_key: str = field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    connect_seconds: float = CONNECT_SECONDS
    read_seconds: float = READ_SECONDS
    max_attempts: int = MAX_ATTEMPTS
    proxy: str | None = field(default=None, repr=False)
    verify: bool | str | None = None

    @property
    def body_seconds(self) -> float:
        """The longest that a whole body may take, however steadily it trickles in."""
        return BODY_TIMEOUTS * self.read_seconds

    def redact(self, text: str) -> str:
        """Give foreign text as it may be shown: without the API key and the proxy's password, in one line.

        The secrets are found raw, URL-quoted, JSON- or HTML-escaped, and in Base64.
        """
        secrets = (self.api_key, urlsplit(self.proxy).password if self.proxy else None)
        for secret in filter(None, secrets):
            text = _any_form(secret).sub("***", text)
        return one_line(text)


@cache
def _any_form(secret: str) -> re.Pattern[str]:
    forms = [
        "|".join(
            re.escape(form)
            for form in {
                character,
                html.escape(character),
                f"\\{character}",
                f"%{ord(character):02x}",
                f"\\u{ord(character):04x}",
                f"&#{ord(character)};",
                f"&#x{ord(character):x};",
            }
        )
        for character in secret
    ]
    # Longest first, so that an escape is taken whole.
    exact = "".join(f"(?:{'|'.join(sorted(form.split('|'), key=len, reverse=True))})" for form in forms)
    base64 = re.escape(b64encode(secret.encode()).decode().rstrip("="))
    return re.compile(f"{exact}|{base64}", re.IGNORECASE)


def origin(url: str) -> tuple[str, str, int | None]:
    """Give scheme, host and port of a URL: what must stay the same for the key to be sent.

    :raises ValueError: where the URL's port or brackets make no sense.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(scheme)

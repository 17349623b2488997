"""What both clients take from the environment, and from HTTP headers, in the same way."""

from __future__ import annotations

import platform
import re
from dataclasses import replace
from urllib.parse import urlsplit
from urllib.request import getproxies

import airflow_provider_faraday
from airflow_provider_faraday.api.errors import FaradayConfigurationError
from airflow_provider_faraday.client.config import ClientConfig

_NEXT = re.compile(r"""rel\s*=\s*["']?[^"',;]*\bnext\b""", re.IGNORECASE)

MAX_LINK_LENGTH = 32_768
"""A ``Link`` header that names four pages of a hundred ids each has 17,000 characters."""


def with_environment_proxy(config: ClientConfig) -> ClientConfig:
    """Return a configuration, with the proxy that requests selects from the environment if it has none."""
    if config.proxy or not getproxies():
        return config
    # Not at the top: a triggerer without proxies does not need requests.
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(config.base_url, get_environ_proxies(config.base_url, no_proxy=None))
    if not proxy:
        return config
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        urlsplit(url)
    except ValueError:
        message = (
            "The proxy in the environment is not a valid URL.\nCheck HTTP_PROXY, HTTPS_PROXY and ALL_PROXY."
        )
    else:
        return replace(config, proxy=url)
    raise FaradayConfigurationError(message)


def user_agent() -> str:
    """Return the ``User-Agent``: this provider, Airflow and Python with their versions."""
    from airflow import __version__ as airflow_version

    return (
        f"airflow-provider-faraday/{airflow_provider_faraday.__version__} "
        f"apache-airflow/{airflow_version} python/{platform.python_version()}"
    )


def next_link(header: str) -> str | None:
    """Return the target of ``rel="next"`` in a ``Link`` header.

    :raises ValueError: if the header is too long to be genuine, or cannot be parsed.
    """
    if "next" not in header.lower():
        return None
    if len(header) > MAX_LINK_LENGTH:
        raise ValueError(f"it has {len(header):,} characters")
    from requests.utils import parse_header_links

    for link in parse_header_links(header):
        relations = " ".join(value for name, value in link.items() if name.lower() == "rel")
        if "next" in relations.lower().split():
            return link["url"]
    if _NEXT.search(header):
        # The parser gives up on some parameters. A list must not end where Faraday says that it goes on.
        raise ValueError("it cannot be parsed")
    return None

"""Proxies from the environment, the ``User-Agent`` and pagination links, for both clients."""

from __future__ import annotations

import platform
from dataclasses import replace
from urllib.request import getproxies

from airflow import __version__ as airflow_version
from requests.utils import get_environ_proxies, parse_header_links, select_proxy

import airflow_provider_faraday
from airflow_provider_faraday.api.errors import FaradayConfigurationError
from airflow_provider_faraday.client.config import ClientConfig, is_proxy_url


def with_environment_proxy(config: ClientConfig) -> ClientConfig:
    """Return a configuration, with the proxy that requests selects from the environment if it has none."""
    if config.proxy or not getproxies():
        return config
    proxy = select_proxy(config.base_url, get_environ_proxies(config.base_url, no_proxy=None))
    if not proxy:
        return config
    url = proxy if "://" in proxy else f"http://{proxy}"
    if not is_proxy_url(url):
        raise FaradayConfigurationError(
            "The proxy in the environment is not valid.\n"
            "Check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY. "
            "Special characters in its password must be percent-encoded."
        )
    return replace(config, proxy=url)


def user_agent() -> str:
    """Return the ``User-Agent``: this provider, Airflow and Python with their versions."""
    return (
        f"airflow-provider-faraday/{airflow_provider_faraday.__version__} "
        f"apache-airflow/{airflow_version} python/{platform.python_version()}"
    )


def next_link(header: str) -> str | None:
    """Return the target of ``rel="next"`` in a ``Link`` header."""
    for link in parse_header_links(header):
        if "next" in link.get("rel", "").lower().split():
            return link["url"]
    return None

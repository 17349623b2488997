"""Proxies from the environment, the ``User-Agent`` and pagination links, for both clients."""

from __future__ import annotations

import platform

from airflow import __version__ as airflow_version
from requests.utils import get_environ_proxies, parse_header_links, select_proxy

import airflow_provider_faraday


def environment_proxy(url: str) -> str | None:
    """Return the proxy that requests selects for a URL from the environment; None if there is none."""
    proxy = select_proxy(url, get_environ_proxies(url))
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


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

"""Which HTTP proxy the environment names, alike for workers and the triggerer."""

from __future__ import annotations

from urllib.request import getproxies


def environment_proxy(url: str) -> str | None:
    """Give the URL of the proxy that the environment names for a URL, as requests reads it; None for none."""
    if not getproxies():
        return None
    # Not at the top: a triggerer without proxies has no use for requests.
    from requests.utils import get_environ_proxies, select_proxy

    proxy = select_proxy(url, get_environ_proxies(url, no_proxy=None))
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy

"""How this provider names itself to Faraday."""

from __future__ import annotations

import platform

import airflow_provider_faraday


def user_agent() -> str:
    """Name this provider, Airflow and Python with their versions."""
    from airflow import __version__ as airflow_version

    return (
        f"airflow-provider-faraday/{airflow_provider_faraday.__version__} "
        f"apache-airflow/{airflow_version} python/{platform.python_version()}"
    )

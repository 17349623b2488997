"""A local Faraday API with sample data, for trying out and testing DAGs.

Run it with ``python -m airflow_provider_faraday.sandbox``, or use :class:`Sandbox` in a test. Both need the
``sandbox`` extra (FastAPI and uvicorn). The import is lazy so that the rest of the package does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox.account_file import SandboxError
    from airflow_provider_faraday.sandbox.server import Sandbox

__all__ = ["Sandbox", "SandboxError"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from airflow_provider_faraday.sandbox import server
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"The sandbox requires {error.name}, which is not installed.\n"
            "Run: pip install 'airflow-provider-faraday[sandbox]'",
            name=error.name,
        ) from error
    return getattr(server, name)

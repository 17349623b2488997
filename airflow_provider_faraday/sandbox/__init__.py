"""The sandbox: a local Faraday API whose datasets move through their statuses, to try DAGs and tests against.

``python -m airflow_provider_faraday.sandbox`` runs it from a shell, :class:`Sandbox` inside a test. Both need
the extra ``sandbox`` (FastAPI and uvicorn), hence the lazy import: the package itself is free of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox.server import Sandbox, SandboxError

__all__ = ["Sandbox", "SandboxError"]


def __getattr__(name: str) -> object:
    if name in __all__:
        try:
            from airflow_provider_faraday.sandbox import server
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"The sandbox needs {error.name}, which is not installed: "
                "pip install 'airflow-provider-faraday[sandbox]'",
                name=error.name,
            ) from error
        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

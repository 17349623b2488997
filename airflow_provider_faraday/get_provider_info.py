"""What Airflow discovers of this provider; plain data, so that discovery imports nothing else."""

from __future__ import annotations

from typing import Any

_ASSET_URIS = [
    {
        "schemes": ["faraday"],
        "handler": "airflow_provider_faraday.assets.datasets.sanitize_uri",
        "factory": "airflow_provider_faraday.assets.datasets.dataset_asset",
    }
]


def get_provider_info() -> dict[str, Any]:
    """Give the provider's description, as Airflow's ``provider_info.schema.json`` defines it."""
    return {
        "package-name": "airflow-provider-faraday",
        "name": "Faraday",
        "description": "`Faraday <https://faraday.ai/>`__ predicts customer behaviour from your own data.",
        "integrations": [
            {
                "integration-name": "Faraday",
                "external-doc-url": "https://faraday.ai/docs/reference",
                "tags": ["service"],
            }
        ],
        "hooks": [
            {
                "integration-name": "Faraday",
                "python-modules": ["airflow_provider_faraday.hooks.faraday"],
            }
        ],
        "operators": [
            {
                "integration-name": "Faraday",
                "python-modules": ["airflow_provider_faraday.operators.datasets"],
            }
        ],
        "sensors": [
            {
                "integration-name": "Faraday",
                "python-modules": ["airflow_provider_faraday.sensors.datasets"],
            }
        ],
        "triggers": [
            {
                "integration-name": "Faraday",
                "python-modules": ["airflow_provider_faraday.triggers.datasets"],
            }
        ],
        "asset-uris": _ASSET_URIS,
        # Airflow 2 looks for the same under this name.
        "dataset-uris": _ASSET_URIS,
        "connection-types": [
            {
                "connection-type": "faraday",
                "hook-class-name": "airflow_provider_faraday.hooks.faraday.FaradayHook",
                "hook-name": "Faraday",
                # Airflow 3.2 and later read the form from here; FaradayHook gives the same to older ones.
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login", "port", "extra"],
                    "relabeling": {"password": "API key", "host": "Base URL"},
                    "placeholders": {
                        "host": "https://api.faraday.ai/v1 (may stay empty)",
                        "password": "from https://app.faraday.ai/settings",
                    },
                },
                "conn-fields": {
                    "timeout": {
                        "label": "Timeout (seconds)",
                        "description": "To connect and to wait for an answer; default 10 and 60",
                        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
                    },
                    "max_attempts": {
                        "label": "Max attempts",
                        "description": "Requests for one call where failures are transient; default 5",
                        "schema": {"type": ["integer", "null"], "minimum": 1},
                    },
                    "proxy": {
                        "label": "Proxy",
                        "description": "URL of an HTTP proxy; default what the environment says",
                        "schema": {"type": ["string", "null"]},
                    },
                    "verify": {
                        "label": "Verify TLS certificates",
                        "description": "true, false or the path of a CA bundle; default true",
                        "schema": {"type": ["string", "null"]},
                    },
                    "allow_http": {
                        "label": "Allow plain http",
                        "description": "Send the key unencrypted to a host that is not this machine",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                },
            }
        ],
    }

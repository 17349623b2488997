"""What Airflow discovers about this provider. Plain data, so that discovery imports nothing else."""

from __future__ import annotations

from typing import Any

_ASSET_URIS = [
    {
        "schemes": ["faraday"],
        "handler": "airflow_provider_faraday.assets.resources.sanitize_uri",
        "factory": "airflow_provider_faraday.assets.datasets.dataset_asset",
        "to_openlineage_converter": "airflow_provider_faraday.lineage.asset_to_openlineage",
    }
]


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, in the format of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-faraday",
        "name": "Faraday",
        "description": "`Faraday <https://faraday.ai/>`__ predicts customer behavior from your own data.",
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
                "python-modules": [
                    "airflow_provider_faraday.operators.datasets",
                    "airflow_provider_faraday.operators.resources",
                    "airflow_provider_faraday.operators.targets",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": "Faraday",
                "python-modules": [
                    "airflow_provider_faraday.sensors.datasets",
                    "airflow_provider_faraday.sensors.resources",
                    "airflow_provider_faraday.sensors.scopes",
                    "airflow_provider_faraday.sensors.targets",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": "Faraday",
                "python-modules": [
                    "airflow_provider_faraday.triggers.datasets",
                    "airflow_provider_faraday.triggers.resources",
                ],
            }
        ],
        "transfers": [
            {
                "source-integration-name": "Faraday",
                "target-integration-name": "Common IO",
                "python-module": "airflow_provider_faraday.transfers.targets",
            },
            {
                "source-integration-name": "Common IO",
                "target-integration-name": "Faraday",
                "python-module": "airflow_provider_faraday.transfers.uploads",
            },
        ],
        "asset-uris": _ASSET_URIS,
        # Airflow 2 uses this name.
        "dataset-uris": _ASSET_URIS,
        "connection-types": [
            {
                "connection-type": "faraday",
                "hook-class-name": "airflow_provider_faraday.hooks.faraday.FaradayHook",
                "hook-name": "Faraday",
                # Airflow 3.2 and later read the form from here. For older versions, FaradayHook returns the
                # same.
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login", "port", "extra"],
                    "relabeling": {"password": "API key", "host": "Base URL"},
                    "placeholders": {
                        "host": "https://api.faraday.ai/v1 (leave empty)",
                        "password": "from https://app.faraday.ai/settings",
                    },
                },
                "conn-fields": {
                    "timeout": {
                        "label": "Timeout (seconds)",
                        "description": "For connecting and for each read; default 10 and 60",
                        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
                    },
                    "max_attempts": {
                        "label": "Max attempts",
                        "description": "Requests per call when failures are transient; default 5",
                        "schema": {"type": ["integer", "null"], "minimum": 1},
                    },
                    "proxy": {
                        "label": "Proxy",
                        "description": "URL of an HTTP proxy; by default from the environment",
                        "schema": {"type": ["string", "null"]},
                    },
                    "verify": {
                        "label": "Verify TLS certificates",
                        "description": "true, false, or the path of a CA bundle; default true",
                        "schema": {"type": ["string", "null"]},
                    },
                    "allow_http": {
                        "label": "Allow plain http",
                        "description": "Send the key unencrypted to a host other than this machine",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                    "webhook_secret": {
                        "label": "Webhook secret",
                        "description": "whsec_… of Faraday's webhook endpoint; two with a space in between",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                },
            }
        ],
        "config": {
            "faraday": {
                "description": "Settings of the provider for Faraday.",
                "options": {
                    "webhook_conn_ids": {
                        "description": (
                            "Airflow connections whose webhooks the API server receives: ids, separated "
                            "by commas. The path is ``/faraday/webhooks/<id>``. Each needs the extra "
                            "``webhook_secret``. Empty: nothing is received. Requires Airflow 3."
                        ),
                        "version_added": None,
                        "type": "string",
                        "example": "faraday_default",
                        "default": "",
                    },
                },
            },
        },
    }

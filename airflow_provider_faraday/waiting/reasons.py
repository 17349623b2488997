"""Add the ingress logs of failed datasets to an error."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from airflow_provider_faraday.api import endpoints
from airflow_provider_faraday.api.ingress import explain, newest_first
from airflow_provider_faraday.api.responses import decode_objects
from airflow_provider_faraday.api.text import one_line
from airflow_provider_faraday.hooks.faraday import FaradayHook

MAX_DATASETS = 3
"""How many failed datasets are looked up: one request each, which is not retried."""

TIMEOUT_SECONDS = 10.0
"""The read timeout. It is short because the task has failed already."""

LOGS = 50
"""How many of a dataset's newest logs are read."""


def with_ingress_logs(message: str, dataset_ids: Iterable[str], hook: FaradayHook) -> str:
    """Return the message of an error, with a line for each failed dataset whose ingress logs say why.

    A request that fails leaves the message as it is, and ends the look-up.
    """
    what, _, remedy = message.partition("\n")
    lines = [what]
    try:
        for id_ in islice(dataset_ids, MAX_DATASETS):
            endpoint = endpoints.ingress_logs(id_, LOGS)
            logs = hook.client.fetch(
                endpoint, decode_objects, attempts=1, enough=LOGS, timeout=TIMEOUT_SECONDS
            ).value
            if reason := explain(newest_first(logs)):
                lines.append(f"Ingress log of {id_}: {reason}.")
    except Exception as error:  # any exception, so that the failure of the task is not hidden
        hook.log.warning("Could not read ingress logs: %s", one_line(str(error)))
    return "\n".join([*lines, remedy])

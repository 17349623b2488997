"""The methods that Airflow's OpenLineage provider calls to get the lineage of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_faraday.lineage import Lineage


class ReportsLineage:
    """A task that reports its lineage, if Airflow's OpenLineage provider is active."""

    def _lineage(self) -> Lineage:
        raise NotImplementedError

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what the task has read and written, from what it has already fetched."""
        from airflow_provider_faraday.facets import to_openlineage

        return to_openlineage(self, self._lineage())

    get_openlineage_facets_on_failure = get_openlineage_facets_on_complete

"""A client for Airflow's REST API, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import local_airflow

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests


class Api(local_airflow.Api):
    """Lists and changes what is in an Airflow."""

    def is_up(self) -> bool:
        """Return whether the API server responds."""
        return self._health() is not None

    def items(self, path: str, name: str, **query: Any) -> list[dict[str, Any]]:
        """Return the items of all pages of a list.

        :param name: the key of the items in a response
        :raises requests.RequestException: if a request fails
        """
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(path, limit=100, offset=len(found), **query).json()
            found += page[name]
            if not page[name] or len(found) >= page["total_entries"]:
                return found

    def task_instances(self, dag_id: str = "~") -> list[dict[str, Any]]:
        """Return the task instances of a DAG, or of all DAGs, by map index."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/~/taskInstances"
        return sorted(
            self.items(path, "task_instances", order_by="id"), key=lambda each: int(each["map_index"])
        )

    def returned(self, dag_id: str) -> list[tuple[dict[str, Any], Any]]:
        """Return the entries of a DAG's XComs ``return_value``, each with its value."""
        dag = f"/api/v2/dags/{dag_id}/dagRuns"
        entries = self.items(f"{dag}/~/taskInstances/~/xcomEntries", "xcom_entries")
        return [
            (
                entry,
                self.get(
                    f"{dag}/{entry['run_id']}/taskInstances/{entry['task_id']}/xcomEntries/return_value",
                    map_index=entry["map_index"],
                ).json()["value"],
            )
            for entry in entries
            if entry["key"] == "return_value"
        ]

    def post(self, path: str, body: Mapping[str, Any]) -> requests.Response:
        """Send a POST request with a JSON body.

        :raises requests.RequestException: if it fails
        """
        response = self._request("POST", path, json=body)
        response.raise_for_status()
        return response

    def patch(self, path: str, body: Mapping[str, Any]) -> None:
        """Send a PATCH request with a JSON body.

        :raises requests.RequestException: if it fails
        """
        self._request("PATCH", path, json=body).raise_for_status()

    def text(self, path: str) -> str:
        """Return status, headers and body of a GET request as text, whatever the status."""
        response = self._request("GET", path)
        return f"{response.status_code} {response.headers} {response.text}"

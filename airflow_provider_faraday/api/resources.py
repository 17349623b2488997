"""Faraday's resource types. Operators, sensors and triggers support every type in this table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.inputs import excerpt, field_names
from airflow_provider_faraday.api.text import one_line


# Not a dataclass, which takes four times as long to define: every parse of a DAG file imports this.
class ResourceType(NamedTuple):
    """A type of resource, https://faraday.ai/docs/reference.

    :param name: as in URLs and in the field ``resource_type``: ``datasets``.
    :param label: one of them, in messages: ``dataset``.
    :param count_field: the field that says how large a resource is, if the type has one.
    :param excluded_fields: fields that are returned only if they are requested by name.
    :param listed_by: the arguments whose resources Faraday lists them by, such as ``connection_id``.
    :param preview: what ``preview: true`` means for the type; None where there are no previews.
    :param has_builds: whether resources of the type have build times.
    :param has_upstream: whether resources of the type are built from others.
    :param always_in_graph: whether each resource of the type has an edge in the dependency graph.
    :param has_ingress_logs: whether Faraday keeps logs of how it reads the input of the type.
    """

    name: str
    label: str
    count_field: str | None = None
    excluded_fields: frozenset[str] = frozenset()
    listed_by: frozenset[str] = frozenset()
    preview: str | None = None
    has_builds: bool = True
    has_upstream: bool = True
    always_in_graph: bool = False
    has_ingress_logs: bool = False

    @property
    def singular(self) -> str:
        """The label without ``Faraday``: ``connection``."""
        return self.label.removeprefix("Faraday ")

    @property
    def plural(self) -> str:
        """Several of them, in messages."""
        return self.label.replace(self.singular, self.name.replace("_", " "))

    @property
    def id_argument(self) -> str:
        """The name of an argument that is the id of one of them."""
        return f"{self.singular.replace(' ', '_')}_id"

    def asset_uri(self, resource_id: str) -> str:
        """Return the URI of the Airflow assets that represent one of them."""
        return f"faraday://{self.name}/{resource_id.lower()}"


_BY_CONTAINER = frozenset({"connection_id", "scope_id"})
_MAY_HOLD_CREDENTIALS = frozenset({"options"})
_NOT_BUILT = "a preview, which Faraday does not build"

RESOURCE_TYPES: dict[str, ResourceType] = {
    row.name: row
    for row in (
        ResourceType("atlases", "atlas"),
        ResourceType("attributes", "attribute"),
        ResourceType("cohorts", "cohort", count_field="population_count"),
        ResourceType(
            "connections",
            # Not just "connection", which Airflow has, too.
            "Faraday connection",
            excluded_fields=_MAY_HOLD_CREDENTIALS,
            has_upstream=False,
        ),
        ResourceType(
            "datasets",
            "dataset",
            count_field="row_count",
            # Rows of customers' data.
            excluded_fields=frozenset({"sample"}),
            listed_by=_BY_CONTAINER,
            preview="a preview, whose rows Faraday does not ingest",
            has_ingress_logs=True,
        ),
        ResourceType("feature_stores", "feature store"),
        ResourceType("market_opportunity_analyses", "market opportunity analysis"),
        ResourceType("outcomes", "outcome", preview=_NOT_BUILT, always_in_graph=True),
        ResourceType("persona_sets", "persona set", preview=_NOT_BUILT),
        ResourceType("places", "place"),
        ResourceType("recommenders", "recommender", preview=_NOT_BUILT),
        ResourceType("scopes", "scope", count_field="population_count", always_in_graph=True),
        ResourceType("streams", "stream", count_field="event_count"),
        ResourceType(
            "targets",
            "target",
            count_field="count",
            excluded_fields=_MAY_HOLD_CREDENTIALS,
            listed_by=_BY_CONTAINER,
            always_in_graph=True,
        ),
        ResourceType("traits", "trait", has_builds=False),
    )
}
"""Every type but ``accounts``, which is not a resource to wait for."""

CONTAINERS: dict[str, ResourceType] = {
    row.id_argument: row
    for row in RESOURCE_TYPES.values()
    if any(row.id_argument in listed.listed_by for listed in RESOURCE_TYPES.values())
}
"""The types whose resources own lists of other resources, by the argument that names one of them."""


def resource_type_named(name: object) -> ResourceType:
    """Look up a resource type by its name.

    :raises FaradayInputError: if there is no such type.
    """
    found = RESOURCE_TYPES.get(name) if isinstance(name, str) else None
    if found is None:
        known = ", ".join(sorted(RESOURCE_TYPES))
        raise FaradayInputError(f"resource_type must be one of {known}, but is {excerpt(name)}.")
    return found


def check_builds(refusal: str, resource_type: str) -> None:
    """Check that resources of a type have build times.

    :param refusal: the first words of the error, such as ``X cannot watch``.
    :raises FaradayInputError: if they do not.
    """
    kind = resource_type_named(resource_type)
    if not kind.has_builds:
        raise FaradayInputError(
            f"{refusal} {kind.plural}: Faraday does not report when {kind.plural} are built.\n"
            "Use it with the datasets that they are built from instead."
        )


def select_fields(
    resource_type: ResourceType, resources: list[dict[str, Any]], fields: Sequence[str] | None, log: Any
) -> list[dict[str, Any]]:
    """Return resources with the requested fields; with None, all fields but the type's excluded ones.

    A requested field that no resource has is logged as a warning.

    :raises FaradayInputError: if ``fields`` is not a list of names.
    """
    names = field_names(fields)
    if names is None:
        excluded = resource_type.excluded_fields
        return [{k: v for k, v in resource.items() if k not in excluded} for resource in resources]
    unknown = [name for name in names if resources and not any(name in resource for resource in resources)]
    if unknown:
        log.warning("No %s has these requested fields: %s", resource_type.label, one_line(", ".join(unknown)))
    return [{k: v for k, v in resource.items() if k in names} for resource in resources]


def count_by_status(resource_type: ResourceType, resources: list[dict[str, Any]]) -> str:
    """Return how many resources are in which status, such as ``3 datasets: 2 ready, 1 archived``."""
    counts = Counter(
        "archived" if resource.get("archived_at") else str(resource.get("status", "without a status"))
        for resource in resources
    )
    total = counts.total()
    noun = resource_type.label if total == 1 else resource_type.plural
    listed = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    return f"{total} {noun}" + (f": {one_line(listed)}" if listed else "")

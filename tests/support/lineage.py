"""Read OpenLineage events with the models of OpenLineage's own client."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import msgspec
from openlineage.client import facet_v2
from openlineage.client.event_v2 import RunEvent

if TYPE_CHECKING:
    from pathlib import Path

_FACETS: dict[str, Any] = {
    facet._get_schema(): facet
    for module in filter(inspect.ismodule, vars(facet_v2).values())
    for facet in filter(inspect.isclass, vars(module).values())
    # The bases are also the schema of facets that only Airflow has.
    if issubclass(facet, facet_v2.BaseFacet) and facet.__module__ != facet_v2.BaseFacet.__module__
}


def read_events(path: Path) -> list[RunEvent]:
    """Return the events in a file that OpenLineage's file transport has written."""
    return [_event(json.loads(line)) for line in path.read_text().splitlines()]


def _event(sent: dict[str, Any]) -> RunEvent:
    event = msgspec.convert(sent, RunEvent)
    event.run.facets = _facets(sent["run"]["facets"])
    event.job.facets = _facets(sent["job"]["facets"])
    for side, facets in (("inputs", "inputFacets"), ("outputs", "outputFacets")):
        for dataset, fields in zip(getattr(event, side), sent[side], strict=True):
            dataset.facets = _facets(fields.get("facets", {}))
            setattr(dataset, facets, _facets(fields.get(facets, {})))
    return event


def _facets(sent: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: _facet(fields) for name, fields in sent.items()}


def _facet(sent: dict[str, Any]) -> Any:
    """Return a facet as the client's class, which rejects fields that it does not have."""
    facet = _FACETS.get(sent["_schemaURL"])
    if facet is None:
        return sent  # one of Airflow's own facets
    return facet(**{name.removeprefix("_"): value for name, value in sent.items() if name != "_schemaURL"})


def named(datasets: Any) -> dict[str, Any]:
    """Return datasets by their namespace and name, such as ``faraday datasets/…``."""
    by_name = {f"{dataset.namespace} {dataset.name}": dataset for dataset in datasets}
    assert len(by_name) == len(datasets), "A dataset is listed twice."
    return by_name

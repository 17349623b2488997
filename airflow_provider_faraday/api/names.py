"""Find a resource by its exact name."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from airflow_provider_faraday.api.errors import FaradayLookupError
from airflow_provider_faraday.api.resources import RESOURCE_TYPES, ResourceType
from airflow_provider_faraday.api.text import LISTED, first_of, one_line


def id_of(resource_type: ResourceType, name: str, listed: list[dict[str, Any]], conn_id: str) -> str:
    """Return the id of the resource that has a name.

    :param listed: all resources of the type, as Faraday sent them. Archived ones do not count.
    :param conn_id: the Airflow connection, for the error.
    :raises FaradayLookupError: if no resource has the name, or several have.
    """
    live = [resource for resource in listed if not resource.get("archived_at")]
    ids = [str(resource["id"]).lower() for resource in live if resource.get("name") == name]
    if len(ids) == 1:
        return ids[0]
    quoted = one_line(f"'{name[:200]}'")
    if ids:
        raise FaradayLookupError(
            f"{len(ids)} {resource_type.plural} are named {quoted}: {first_of(ids)}.\n"
            "Use the UUID of one of them."
        )
    names = {str(each["name"]).casefold(): str(each["name"]) for each in live if each.get("name")}
    close = [names[match] for match in get_close_matches(name.casefold(), names, n=LISTED)]
    existing = first_of(close or sorted(names.values()), lambda each: one_line(f"'{each[:200]}'")) or "none"
    live_only = " that is not archived" if any(each.get("name") == name for each in listed) else ""
    remedy = f"Check the name, and that the Airflow connection '{conn_id}' is for the account that owns it."
    if resource_type is RESOURCE_TYPES["connections"]:
        remedy += " The id of an Airflow connection belongs in faraday_conn_id."
    raise FaradayLookupError(
        f"The account has no {resource_type.label} named {quoted}{live_only}. "
        f"Candidates: {existing}.\n{remedy}"
    )

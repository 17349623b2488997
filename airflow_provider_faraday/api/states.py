"""The state of a resource: the fields that readiness and updates depend on."""

from __future__ import annotations

from datetime import datetime
from functools import cache, cached_property
from typing import Annotated, Any, ClassVar

import msgspec

from airflow_provider_faraday.api.errors import FaradayResponseError
from airflow_provider_faraday.api.resources import ResourceType
from airflow_provider_faraday.api.responses import Decode
from airflow_provider_faraday.api.text import one_line, shortened
from airflow_provider_faraday.api.times import shown, timestamp

KNOWN_STATUSES = frozenset({"new", "starting", "running", "ready", "error"})

NO_REASON = "Faraday gave no reason"


class ResourceState(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The fields of a resource that readiness and updates depend on. Timestamps are as Faraday sent them."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    name: str | None = None
    status: str | None = None
    status_error: str | None = None
    status_changed_at: str | None = None
    updated_at: str | None = None
    last_read_input_at: str | None = None
    last_updated_config_at: str | None = None
    last_updated_output_at: str | None = None
    archived_at: str | None = None
    # Passed through or only compared: another type than expected must not end a wait.
    preview: Any = None
    count: Any = None

    resource_type: ClassVar[ResourceType]

    # Cached: thousands of subscribers may evaluate a state.
    @cached_property
    def key(self) -> str:
        """The id in lower case, as arguments and trigger events have it."""
        return self.id.lower()

    @cached_property
    def label(self) -> str:
        """Name and id, for messages."""
        return one_line(f"'{self.name}' ({self.id})" if self.name else self.id)

    @property
    def title(self) -> str:
        """Type and name, for messages about resources of several types."""
        return one_line(f"{self.resource_type.label} " + (f"'{self.name}'" if self.name else self.id))

    @property
    def build(self) -> dict[str, Any]:
        """The last build, as asset events carry it."""
        build = {
            "resource_type": self.resource_type.name,
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "last_updated_output_at": self.last_updated_output_at,
        }
        if self.resource_type.count_field:
            # An event with any other value would end Airflow's triggerer.
            is_count = isinstance(self.count, (int, float)) and abs(self.count) < 2**63
            build[self.resource_type.count_field] = self.count if is_count else None
        return build

    @cached_property
    def built_at(self) -> datetime | None:
        """When the last successful build ended; None if that is not known."""
        return timestamp(self.last_updated_output_at)

    @property
    def read_at(self) -> datetime | None:
        """When the input of the last build was read; None if that is not known."""
        return timestamp(self.last_read_input_at)

    @property
    def failed_at(self) -> datetime | None:
        """When a resource in ``error`` went into it, or changed last; None for other resources."""
        if self.status != "error":
            return None
        return timestamp(self.status_changed_at) or timestamp(self.updated_at)

    @property
    def changed_at(self) -> datetime | None:
        """When the status, the configuration or the output changed last; None if that is not known."""
        texts = (self.status_changed_at, self.last_updated_config_at, self.last_updated_output_at)
        return max(filter(None, map(timestamp, texts)), default=None)

    @property
    def error(self) -> str:
        """Faraday's reason for an ``error``, as part of a sentence of ours."""
        return shortened(one_line(self.status_error or "").strip().rstrip(".") or NO_REASON, 500)

    @cached_property
    def why_skipped(self) -> str | None:
        """Why waits ignore this resource; None if they do not."""
        if self.archived_at:
            return "archived"
        return self.resource_type.preview if self.preview is True else None

    @cached_property
    def why_not_ready(self) -> str | None:
        """Why the resource is not ready, or about to be rebuilt; None if neither."""
        if self.status != "ready":
            known = "" if self.status in KNOWN_STATUSES else "unknown "
            reason = f"{known}status {self.status}" if self.status else "no status"
            return f"{reason}, {self.error}" if self.status == "error" and self.status_error else reason
        for text in (self.last_updated_output_at, self.last_updated_config_at):
            if text and not timestamp(text):
                return f"ready, but {text[:40]!r} is not a valid timestamp"
        configured_at = timestamp(self.last_updated_config_at)
        if self.built_at and configured_at and configured_at > self.built_at:
            return f"ready, but its configuration changed at {shown(configured_at)}, after its last build"
        return None


@cache
def state_type(resource_type: ResourceType) -> type[ResourceState]:
    """Return the struct that decodes resources of a type, with the type's count as ``count``."""
    struct: type[Any] = msgspec.defstruct(
        f"{resource_type.label.title().replace(' ', '')}State",
        [("count", Any, None)],
        bases=(ResourceState,),
        rename={"count": resource_type.count_field or "count"},
        namespace={"resource_type": resource_type},
        frozen=True,
        kw_only=True,
        dict=True,
    )
    return struct


@cache
def decode_states(resource_type: ResourceType) -> Decode[list[ResourceState]]:
    """Return a function that decodes a list of resources into states."""
    decoder = msgspec.json.Decoder(list[state_type(resource_type)])  # type: ignore[misc]
    return lambda response: decoder.decode(response.body)


def states_of(resource_type: ResourceType, resources: list[dict[str, Any]]) -> list[ResourceState]:
    """Convert resource dicts to states.

    :raises FaradayResponseError: if a field does not have the type that Faraday's reference promises.
    """
    try:
        states: list[ResourceState] = msgspec.convert(resources, list[state_type(resource_type)])  # type: ignore[misc]
        return states
    except msgspec.ValidationError as error:
        raise FaradayResponseError(
            f"Faraday returned {resource_type.plural} in an unexpected format: {error}."
        ) from None

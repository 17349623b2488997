"""Cascading builds: a resource is rebuilt when an upstream resource has changed.

Each build is scheduled as dated events of its resource. When a build has succeeded, the resources downstream
are *stale*: each is rebuilt once everything upstream of it is ready. What happened by a given time does not
depend on when it is looked at, so the cascade needs no background task, either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from heapq import heappop, heappush
from itertools import count

from airflow_provider_faraday.sandbox.account_file import RESOURCE_TYPES, AccountFile, ResourceSpec
from airflow_provider_faraday.sandbox.errors import FaradayError
from airflow_provider_faraday.sandbox.resources import KINDS, Change, Event, Resource, rfc3339
from airflow_provider_faraday.sandbox.uploads import Uploads


class Pipeline:
    """The resources of an account, and what each is built from.

    All methods that take a time must be called with times in order.

    :param uploads: the files that datasets read
    :param speed: how many times faster than configured resources build
    """

    def __init__(self, content: AccountFile, uploads: Uploads, now: datetime, speed: float) -> None:
        self._uploads = uploads
        self._speed = speed
        self._resources: dict[str, dict[str, Resource]] = {name: {} for name in RESOURCE_TYPES}
        self._upstream: dict[str, list[str]] = {}
        self._types: dict[str, str] = {}
        # Scheduled ends of builds, the next one first. The number keeps those of the same time in order.
        self._ends: list[tuple[datetime, int, str, Event]] = []
        self._number = count()
        self._ended: list[tuple[Resource, Event]] = []
        # By id: the time of the upstream change that the resource does not contain yet.
        self._stale: dict[str, datetime] = {}
        # By id: the time when a status was set by hand. Earlier upstream changes do not affect it.
        self._held: dict[str, datetime] = {}
        specs = [(resource_type, spec) for resource_type, _, spec in content.specs()]
        for resource_type, spec in specs:
            self._create(resource_type, spec, now)
        for resource_type, spec in specs:
            self._begin(resource_type, spec, now)
        self._rebuild_stale(now)

    def get(self, resource_type: str, resource_id: str) -> Resource:
        """Return a resource.

        :raises FaradayError: there is none
        """
        try:
            return self._resources[resource_type][resource_id]
        except KeyError:
            label = KINDS[resource_type].label if resource_type in KINDS else resource_type
            raise FaradayError(404, f"No {label} with the id {resource_id}.") from None

    def find(self, resource_id: str) -> Resource:
        """Return a resource of any type.

        :raises FaradayError: there is none
        """
        return self.get(self._types.get(resource_id, "resource"), resource_id)

    def all(self, resource_type: str) -> list[Resource]:
        """Return all resources of a type."""
        if resource_type not in self._resources:
            raise FaradayError(404, f"No resource type {resource_type}.")
        return list(self._resources[resource_type].values())

    def edges(self) -> list[tuple[Resource, Resource]]:
        """Return each pair of resources of which the second is built from the first."""
        return [(up, down) for down in self._each() for up in self.upstream(down)]

    def upstream(self, resource: Resource) -> list[Resource]:
        """Return what a resource is directly built from."""
        found = self._upstream[resource.id]
        return [self._resources[self._types[each]][each] for each in found if each in self._types]

    def all_upstream(self, resources: Iterable[Resource]) -> set[str]:
        """Return the ids of these resources and of everything upstream of them."""
        found: set[str] = set()
        to_visit = list(resources)
        while to_visit:
            resource = to_visit.pop()
            if resource.id not in found:
                found.add(resource.id)
                to_visit += self.upstream(resource)
        return found

    def add(self, resource_type: str, spec: ResourceSpec, now: datetime) -> None:
        """Add a resource. Without a status of its own, it is built when what it is made of is ready.

        :raises FaradayError: its id is taken, or it is built from what does not exist
        """
        if spec.id in self._types:
            raise FaradayError(409, f"A resource with the id {spec.id} already exists.")
        for _, upstream_id, expected in spec.upstream():
            if upstream_id not in self._types or expected not in (None, self._types[upstream_id]):
                label = KINDS[expected].label if expected else "resource"
                raise FaradayError(404, f"No {label} with the id {upstream_id}.")
        self._create(resource_type, spec, now)
        self._begin(resource_type, spec, now)
        self._rebuild_stale(now)

    def remove(self, resource_type: str, resource_id: str, now: datetime) -> None:
        """Remove a resource."""
        self.get(resource_type, resource_id)
        del self._resources[resource_type][resource_id], self._types[resource_id]
        self._stale.pop(resource_id, None)
        self._rebuild_stale(now)

    def force_update(self, resource: Resource, now: datetime) -> None:
        """Schedule a rebuild of a resource, unless it is one that Faraday does not build."""
        if resource.builds(now):
            self._put(resource.force_update(now))

    def change(self, resource: Resource, change: Change, now: datetime) -> None:
        """Change a resource. A status that is set is kept until something upstream is rebuilt anew."""
        if "status" in (change.model_extra or {}):
            self._held[resource.id] = now
            self._stale.pop(resource.id, None)
        changed = resource.change(change, now)
        if change.rebuild or not changed.builds(now):
            self._stale.pop(resource.id, None)
        self._put(changed)
        self.apply_events(now)
        self._rebuild_stale(now)

    def apply_events(self, now: datetime) -> None:
        """Apply all events up to that time."""
        while self._ends and self._ends[0][0] <= now:
            at, _, resource_id, event = heappop(self._ends)
            resource = self._resources.get(self._types.get(resource_id, ""), {}).get(resource_id)
            # It may have been canceled.
            if resource is not None and event in resource.events:
                self._ended.append((resource, event))
                if event.fields["status"] == "ready":
                    self._succeeded(resource, event)
            if not self._ends or self._ends[0][0] > at:
                self._rebuild_stale(at)

    def take_ended(self) -> list[tuple[Resource, Event]]:
        """Return the builds that have ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def next_end(self) -> datetime | None:
        """Return when the next scheduled build ends."""
        return self._ends[0][0] if self._ends else None

    def _create(self, resource_type: str, spec: ResourceSpec, now: datetime) -> None:
        self._upstream[spec.id] = list(dict.fromkeys(id_ for _, id_, _ in spec.upstream()))
        self._types[spec.id] = resource_type
        self._put(Resource.create(resource_type, spec, now, self._speed))

    def _begin(self, resource_type: str, spec: ResourceSpec, now: datetime) -> None:
        resource = self.get(resource_type, spec.id)
        if "status" in spec.faraday_fields() or "status" in KINDS[resource_type].defaults:
            self._held[spec.id] = now
        elif not resource.builds(now):
            return
        # Connections do not count: datasets build from the start.
        elif any(upstream.type != "connections" for upstream in self.upstream(resource)):
            self._stale[spec.id] = now
        else:
            self._put(resource.first_build(now))

    def _succeeded(self, resource: Resource, event: Event) -> None:
        self._put(resource.with_counts(event, self._size(resource, event)))
        cause = event.cause
        if cause is None or not resource.settings.changes:
            return
        for downstream in self._each():
            held = self._held.get(downstream.id)
            if resource.id not in self._upstream[downstream.id] or not downstream.builds(event.at):
                continue
            if held is None or cause > held:
                self._stale[downstream.id] = max(cause, self._stale.get(downstream.id, cause))

    def _size(self, resource: Resource, event: Event) -> int | None:
        """Return the size of a resource after a build, if it depends on more than the resource itself."""
        if resource.type == "datasets":
            before = resource.state(event.at, before=event)
            read_at = before.get("last_read_input_at") or rfc3339(event.at)
            return self._uploads.rows(before.get("options"), read_at)
        if resource.type == "targets":
            # A target delivers the population of its scope.
            for scope in self.upstream(resource):
                if scope.type == "scopes":
                    return scope.state(event.at).get("population_count")
        return None

    def _rebuild_stale(self, now: datetime) -> None:
        """Schedule rebuilds of the stale resources for which everything upstream is ready."""
        known: dict[str, bool] = {}
        for resource_id, cause in list(self._stale.items()):
            resource = self._resources[self._types[resource_id]][resource_id]
            if all(self._is_up_to_date(upstream, now, known) for upstream in self.upstream(resource)):
                del self._stale[resource_id]
                self._put(resource.force_update(now, cause))

    def _is_up_to_date(self, resource: Resource, now: datetime, known: dict[str, bool]) -> bool:
        """Return whether a resource and everything upstream of it is ready and stays so for now."""
        if resource.id not in known:
            known[resource.id] = resource.id not in self._stale and (
                not resource.builds(now)
                or (
                    resource.is_up_to_date(now)
                    and all(self._is_up_to_date(each, now, known) for each in self.upstream(resource))
                )
            )
        return known[resource.id]

    def _put(self, resource: Resource) -> None:
        resources = self._resources[resource.type]
        before = resources[resource.id].events if resource.id in resources else ()
        resources[resource.id] = resource
        for event in resource.events:
            if event.ends_build and event not in before:
                heappush(self._ends, (event.at, next(self._number), resource.id, event))

    def _each(self) -> Iterator[Resource]:
        for resources in self._resources.values():
            yield from resources.values()

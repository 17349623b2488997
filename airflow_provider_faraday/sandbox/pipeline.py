"""Cascading builds: a resource is rebuilt when an upstream resource has changed.

Each build is scheduled as dated events of its resource. When a build has succeeded, the resources downstream
are *stale*: each is rebuilt once everything upstream of it is ready. What happened by a given time does not
depend on when it is looked at, so the cascade needs no background task, either.
"""

from __future__ import annotations

from bisect import insort
from datetime import datetime

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
        self._resources: dict[str, Resource] = {}
        # Scheduled ends of builds, the next one first: the id of the resource, and the event.
        self._ends: list[tuple[str, Event]] = []
        self._ended: list[tuple[Resource, Event]] = []
        # The ids of resources that do not contain an upstream change yet.
        self._stale: set[str] = set()
        # The ids of resources with a status that was set by hand. Only a rebuild upstream changes it.
        self._held: set[str] = set()
        for resource_type, _, spec in content.specs():
            self._add(resource_type, spec, now)
        self._rebuild_stale(now)

    def get(self, resource_type: str, resource_id: str) -> Resource:
        """Return a resource.

        :raises FaradayError: there is none
        """
        found = self.find(resource_id)
        if found.type != resource_type:
            raise FaradayError(404, f"The resource {resource_id} is in {found.type}, not in {resource_type}.")
        return found

    def find(self, resource_id: str) -> Resource:
        """Return a resource of any type.

        :raises FaradayError: there is none
        """
        if resource_id not in self._resources:
            raise FaradayError(404, f"No resource with the id {resource_id}.")
        return self._resources[resource_id]

    def all(self, resource_type: str) -> list[Resource]:
        """Return all resources of a type."""
        if resource_type not in RESOURCE_TYPES:
            raise FaradayError(404, f"No resource type {resource_type}.")
        return [resource for resource in self._resources.values() if resource.type == resource_type]

    def edges(self) -> list[tuple[Resource, Resource]]:
        """Return each pair of resources of which the second is built from the first."""
        return [(up, down) for down in self._resources.values() for up in self.upstream(down)]

    def upstream(self, resource: Resource) -> list[Resource]:
        """Return what a resource is directly built from."""
        return [self._resources[each] for each in resource.upstream_ids if each in self._resources]

    def upstream_of_population(self, scope: Resource, now: datetime) -> set[str]:
        """Return the ids of what the population of a scope is built from, or of its given datasets."""
        if scope.settings.dataset_ids:
            return set(scope.settings.dataset_ids)
        population = scope.document(now).get("population") or {}
        cohort_ids = population.get("cohort_ids") or []
        found: set[str] = set()
        to_visit = [cohort for cohort in self.all("cohorts") if cohort.id in cohort_ids]
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
        if spec.id in self._resources:
            raise FaradayError(409, f"A resource with the id {spec.id} already exists.")
        for _, referenced_id in spec.references():
            self.find(referenced_id)
        self._add(resource_type, spec, now)
        self._rebuild_stale(now)

    def remove(self, resource_type: str, resource_id: str, now: datetime) -> None:
        """Remove a resource."""
        self.get(resource_type, resource_id)
        del self._resources[resource_id]
        self._stale.discard(resource_id)
        self._held.discard(resource_id)
        self._rebuild_stale(now)

    def force_update(self, resource: Resource, now: datetime) -> None:
        """Schedule a rebuild of a resource, unless it is one that Faraday does not build."""
        if resource.builds(now):
            self._put(resource.force_update(now))

    def change(self, resource: Resource, change: Change, now: datetime) -> None:
        """Change a resource. A status that is set is kept until something upstream is rebuilt."""
        changed = resource.change(change, now)
        if change.sets_status:
            self._held.add(resource.id)
        if change.sets_status or change.rebuild or not changed.builds(now):
            self._stale.discard(resource.id)
        self._put(changed)
        self.apply_events(now)
        self._rebuild_stale(now)

    def apply_events(self, now: datetime) -> None:
        """Apply all events up to that time."""
        while self._ends and self._ends[0][1].at <= now:
            resource_id, event = self._ends.pop(0)
            resource = self._resources.get(resource_id)
            # It may have been canceled.
            if resource is not None and event in resource.events:
                self._ended.append((resource, event))
                if event.is_success:
                    self._succeeded(resource, event)
            if not self._ends or self._ends[0][1].at > event.at:
                self._rebuild_stale(event.at)

    def take_ended(self) -> list[tuple[Resource, Event]]:
        """Return the builds that have ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def _add(self, resource_type: str, spec: ResourceSpec, now: datetime) -> None:
        resource = Resource.create(resource_type, spec, now, self._speed)
        (event,) = resource.events
        # The initial state is not a change, so it rebuilds nothing downstream.
        self._resources[spec.id] = self._with_counts(resource, event) if event.is_success else resource
        if "status" in spec.faraday_fields() or "status" in KINDS[resource_type].defaults:
            self._held.add(spec.id)
        elif not resource.builds(now):
            return
        # Connections do not count: datasets build from the start.
        elif any(upstream_id != spec.connection_id for upstream_id in resource.upstream_ids):
            self._stale.add(spec.id)
        else:
            self._put(resource.first_build(now))

    def _succeeded(self, resource: Resource, event: Event) -> None:
        self._resources[resource.id] = self._with_counts(resource, event)
        if not resource.settings.changes:
            return
        is_rebuild = resource.state(event.at, before=event).get("last_updated_output_at") is not None
        for downstream in self._resources.values():
            if resource.id not in downstream.upstream_ids or not downstream.builds(event.at):
                continue
            if is_rebuild or downstream.id not in self._held:
                self._held.discard(downstream.id)
                self._stale.add(downstream.id)

    def _with_counts(self, resource: Resource, event: Event) -> Resource:
        """Return a resource with its counts after a build."""
        size = None
        if resource.type == "datasets":
            before = resource.state(event.at, before=event)
            read_at = before.get("last_read_input_at") or rfc3339(event.at)
            size = self._uploads.rows(before.get("options"), read_at)
        elif resource.type == "targets":
            # A target delivers the population of its scope.
            for scope in self.upstream(resource):
                if scope.type == "scopes":
                    size = scope.state(event.at).get("population_count")
        return resource.with_counts(event, size)

    def _rebuild_stale(self, now: datetime) -> None:
        """Schedule rebuilds of the stale resources for which everything upstream is ready."""
        known: dict[str, bool] = {}
        for resource in list(self._resources.values()):
            if resource.id in self._stale and all(
                self._is_up_to_date(upstream, now, known) for upstream in self.upstream(resource)
            ):
                self._stale.remove(resource.id)
                self._put(resource.force_update(now))

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
        before = self._resources[resource.id].events
        self._resources[resource.id] = resource
        for event in resource.events:
            if event.ends_build and event not in before:
                insort(self._ends, (resource.id, event), key=lambda end: end[1].at)

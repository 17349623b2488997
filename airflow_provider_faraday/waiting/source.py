"""A source: the set of resources that a task looks at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.inputs import resource_id_or_name, resource_ids_or_names
from airflow_provider_faraday.api.resources import CONTAINERS, ResourceType, resource_type_named

if TYPE_CHECKING:
    from airflow_provider_faraday.api.endpoints import Endpoint


class Container(NamedTuple):
    """What a list of resources belongs to, such as a scope."""

    type: ResourceType
    id: str


class Source(NamedTuple):
    """Resources of one type: those of a container, those listed by id, or all of the account.

    :meth:`parse` validates the arguments, so a source is always valid. It may have names in place of ids
    until :func:`~airflow_provider_faraday.waiting.wait.look_up` replaces them.

    :param container: None for a source by id, or of the account.
    :param ids: in lower case; None for all.
    :param include_upstream: whether everything that the resources are built from belongs to it.
    """

    type: ResourceType
    container: Container | None = None
    ids: tuple[str, ...] | None = None
    include_upstream: bool = False

    @classmethod
    def parse(cls, kind: ResourceType, argument: str | None, value: object) -> Source:
        """Return the source that an argument describes.

        :param argument: the name of the argument, such as ``scope_id``; None for all of the account.
        :param value: UUIDs or names.
        :raises FaradayInputError: if it is neither.
        """
        if argument is None:
            return cls(kind)
        if argument in CONTAINERS:
            return cls(kind, Container(CONTAINERS[argument], resource_id_or_name(value, argument)))
        return cls(kind, ids=tuple(resource_ids_or_names(value, argument)))

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Source:
        """Return the source that :attr:`as_json` describes. Fields may be absent."""
        containers = [Container(kind, saved[name]) for name, kind in CONTAINERS.items() if saved.get(name)]
        ids = saved.get("resource_ids")
        return cls(
            resource_type_named(saved["resource_type"]),
            containers[0] if containers else None,
            None if ids is None else tuple(ids),
            saved.get("include_upstream", False),
        )

    @property
    def as_json(self) -> dict[str, Any]:
        """The source as JSON values, in trigger arguments.

        Stored watchers are created from these fields, and identified by them. Fields that are added later
        are omitted while they have their default values, so that the identity does not change.
        """
        saved: dict[str, Any] = {
            "resource_type": self.type.name,
            "connection_id": None,
            "scope_id": None,
            "resource_ids": None if self.ids is None else list(self.ids),
        }
        if self.container:
            saved[self.container.type.id_argument] = self.container.id
        if self.include_upstream:
            saved["include_upstream"] = True
        return saved

    @property
    def label(self) -> str:
        """The source, for messages."""
        if self.container:
            return f"{self.type.plural} of {self.container.type.label} {self.container.id}"
        return f"{self.type.plural} of the account" if self.ids is None else f"requested {self.type.plural}"

    @property
    def without_ids(self) -> Source:
        """The source that is polled for this one and others of its kind together."""
        return self if self.ids is None else self._replace(ids=())

    def endpoints(self) -> list[Endpoint]:
        """Return the requests that make up one poll."""
        from airflow_provider_faraday.api import endpoints

        if self.container:
            return [endpoints.resources_of(self.container.type, self.container.id, self.type)]
        if self.ids is None:
            return [endpoints.list_resources(self.type)]
        return endpoints.resources_by_id(self.type, self.ids)


def given_source(owner: str, kind: ResourceType, given: Mapping[str, object]) -> str:
    """Return which of the arguments that describe a source is given.

    :param owner: the task or class that has these arguments, for the error.
    :raises FaradayInputError: if it is not exactly one, or the type cannot be listed by it.
    """
    names = [name for name, value in given.items() if value is not None]
    supported = [name for name in given if name in kind.listed_by or name not in CONTAINERS]
    if len(names) == 1 and names[0] in supported:
        return names[0]
    raise FaradayInputError(
        f"{owner} takes exactly one of these arguments for {kind.plural}: {', '.join(supported)}. "
        f"It got {' and '.join(names) or 'none of them'}."
    )

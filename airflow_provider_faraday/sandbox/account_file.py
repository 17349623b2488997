"""Account files: JSON with the resources of an account, their inputs and their builds.

``docs/sandbox.md`` has an example. Only names are required. Resources may have any Faraday field, and the API
returns it unchanged. A resource's ``sandbox`` object configures its builds and is never returned.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args
from uuid import UUID, uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator


class SandboxError(Exception):
    """The sandbox cannot run with the given options or account."""


# A UUID, written as Faraday writes it.
Id = Annotated[str, AfterValidator(lambda value: str(UUID(value)))]
Model = TypeVar("Model", bound=BaseModel)
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class BuildSettings(BaseModel):
    """How a resource builds. Durations are in seconds at speed 1.

    :param new: time in status ``new`` (first build of a resource with nothing to wait for)
    :param starting: time in status ``starting``
    :param running: time in status ``running``
    :param lag: delay between the cause of a build, such as a force update, and the build
    :param outcome: final status of each build
    :param status_error: error message of failed builds
    :param changes: whether a rebuild changes the output, so that what is downstream is rebuilt, too
    :param rows: size of the first successful build: rows, people or events
    :param rows_per_update: what each later build adds
    """

    model_config = ConfigDict(extra="forbid")

    new: Seconds = 0.5
    starting: Seconds = 0.5
    running: Seconds = 2.0
    lag: Seconds = 1.0
    outcome: Literal["ready", "error"] = "ready"
    status_error: str = "The sandbox is configured to fail builds of this resource."
    changes: bool = True
    rows: int = Field(default=1000, ge=0)
    rows_per_update: int = Field(default=100, ge=0)


class ResourceSettings(BuildSettings):
    """How a resource builds, and what from.

    :param upstream_ids: ids of the resources that it is built from, of any type
    :param dataset_ids: of a scope: the datasets behind its population, from which it is built, too
    """

    upstream_ids: list[Id] = []
    dataset_ids: list[Id] = []


class DerivedSettings(ResourceSettings):
    """The builds of a resource that is built from others. They are short, because a target needs several."""

    starting: Seconds = 0.2
    running: Seconds = 0.6
    lag: Seconds = 0.1


class ResourceSpec(BaseModel):
    """A resource: ``name``, optional ``id`` and ``sandbox``, and any Faraday fields."""

    model_config = ConfigDict(extra="allow")

    built_from: ClassVar[str] = ""
    """The field with the id of an upstream resource, if there is one."""

    id: Id = Field(default_factory=lambda: str(uuid4()))
    name: str = Field(min_length=1)
    connection_id: Id | None = None
    scope_id: Id | None = None
    sandbox: ResourceSettings = ResourceSettings()

    def faraday_fields(self) -> dict[str, Any]:
        """Return the fields that the API returns: everything except ``sandbox``."""
        given = self.model_dump(exclude={"sandbox"}, exclude_unset=True)
        return {"id": self.id, "name": self.name, **given}

    def references(self) -> list[tuple[str, str]]:
        """Return the ids of other resources, each with the field that has it."""
        found = [("connection_id", self.connection_id), ("scope_id", self.scope_id)]
        found += [("sandbox.dataset_ids", each) for each in self.sandbox.dataset_ids]
        found += [("sandbox.upstream_ids", each) for each in self.sandbox.upstream_ids]
        return [(name, id_) for name, id_ in found if id_ is not None]

    def upstream_ids(self) -> list[str]:
        """Return the ids of the resources that the resource is built from."""
        return [
            id_ for name, id_ in self.references() if name.startswith("sandbox.") or name == self.built_from
        ]


class DatasetSpec(ResourceSpec):
    """A dataset, which is built from its connection."""

    built_from = "connection_id"


class DerivedSpec(ResourceSpec):
    """A resource that is built from others: all types except connections and datasets."""

    sandbox: DerivedSettings = DerivedSettings()


class TargetSpec(DerivedSpec):
    """A target. It is built from its scope, and delivered to its Faraday connection."""

    built_from = "scope_id"


class AccountFile(BaseModel):
    """The content of an account file: the account, and resources by type, in the order of the pipeline.

    :param page_size: page length of list endpoints; by default lists are not paginated
    """

    model_config = ConfigDict(extra="forbid")

    account: ResourceSpec = Field(default_factory=lambda: ResourceSpec(name="Sandbox"))
    page_size: int | None = Field(default=None, ge=1)
    connections: list[ResourceSpec] = []
    datasets: list[DatasetSpec] = []
    streams: list[DerivedSpec] = []
    traits: list[DerivedSpec] = []
    places: list[DerivedSpec] = []
    cohorts: list[DerivedSpec] = []
    outcomes: list[DerivedSpec] = []
    persona_sets: list[DerivedSpec] = []
    recommenders: list[DerivedSpec] = []
    attributes: list[DerivedSpec] = []
    atlases: list[DerivedSpec] = []
    feature_stores: list[DerivedSpec] = []
    market_opportunity_analyses: list[DerivedSpec] = []
    scopes: list[DerivedSpec] = []
    targets: list[TargetSpec] = []

    def specs(self) -> Iterator[tuple[str, int, ResourceSpec]]:
        """Return each resource, with its type and its index in the list of its type."""
        for resource_type in RESOURCE_TYPES:
            for index, spec in enumerate(getattr(self, resource_type)):
                yield resource_type, index, spec

    @model_validator(mode="after")
    def _check_ids(self) -> AccountFile:
        graph: dict[str, list[str]] = {}
        for resource_type, index, spec in self.specs():
            if spec.id in graph:
                raise ValueError(f"{resource_type}.{index}.id: duplicate id {spec.id}")
            graph[spec.id] = spec.upstream_ids()
        for resource_type, index, spec in self.specs():
            for name, id_ in spec.references():
                if id_ not in graph:
                    raise ValueError(f"{resource_type}.{index}.{name}: no resource {id_}")
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            ids = ", ".join(error.args[1])
            raise ValueError(f"these resources are upstream of each other: {ids}") from None
        return self


RESOURCE_TYPES = tuple(name for name in AccountFile.model_fields if name not in ("account", "page_size"))
"""All resource types, in the order of the pipeline."""
SPECS: dict[str, type[ResourceSpec]] = {
    name: get_args(AccountFile.model_fields[name].annotation)[0] for name in RESOURCE_TYPES
}
"""What describes a resource, by type."""


def load(source: str | Path | dict[str, Any] | None = None) -> AccountFile:
    """Return a validated account.

    :param source: path of a JSON file, its parsed content, or None for the bundled account
    :raises SandboxError: the file cannot be read, or its content is invalid
    """
    if isinstance(source, dict):
        return validate("Account", AccountFile, source)
    path = files("airflow_provider_faraday.sandbox") / "account.json" if source is None else Path(source)
    name = f"Account file '{path}'"
    try:
        return validate(name, AccountFile, json.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError) as error:
        raise SandboxError(f"{name} cannot be read: {error}.") from error


def validate(name: str, model: type[Model], content: object) -> Model:
    """Return a validated model.

    :raises SandboxError: the content is invalid; names it and each invalid field
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{place}: {message}" if place else message)
        raise SandboxError(f"{name} is invalid: {'; '.join(problems)}.") from error

"""Account files: JSON that describes Faraday connections, scopes, datasets, and how they build.

``docs/sandbox.md`` has an example. Only names are required. Resources may have any Faraday field, and the API
returns it unchanged. A resource's ``sandbox`` object configures its builds and is never returned.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator


class SandboxError(Exception):
    """The sandbox cannot run with the given options or account."""


def canonical_uuid(value: str) -> str:
    """Return a hyphenated UUID in lower case, as Faraday writes it.

    :raises ValueError: not a hyphenated UUID
    """
    try:
        canonical = str(UUID(value))
    except ValueError:
        canonical = ""
    # UUID() also accepts braces, urn: prefixes and bare hex digits.
    if canonical != value.lower():
        raise ValueError("must be a UUID")
    return canonical


Id = Annotated[str, AfterValidator(canonical_uuid)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class BuildSettings(BaseModel):
    """How a resource builds. Durations are in seconds at speed 1.

    :param new: time in status ``new`` (first build only)
    :param starting: time in status ``starting``
    :param running: time in status ``running``
    :param lag: delay between a force update and the build that it starts
    :param outcome: final status of each build
    :param status_error: error message of failed builds
    :param rows: rows in the first successful build of a dataset
    :param rows_per_update: rows added by each later build
    """

    model_config = ConfigDict(extra="forbid")

    new: Seconds = 0.5
    starting: Seconds = 0.5
    running: Seconds = 2.0
    lag: Seconds = 1.0
    outcome: Literal["ready", "error"] = "ready"
    status_error: str = "The sandbox is configured to fail builds of this resource."
    rows: int = Field(default=1000, ge=0)
    rows_per_update: int = Field(default=100, ge=0)


class ScopeSettings(BuildSettings):
    """How a scope builds, and the ids of the datasets behind its population."""

    dataset_ids: list[Id] = []


class ResourceSpec(BaseModel):
    """A resource: ``name``, optional ``id`` and ``sandbox``, and any Faraday fields."""

    model_config = ConfigDict(extra="allow")

    id: Id = Field(default_factory=lambda: str(uuid4()))
    name: str = Field(min_length=1)
    sandbox: BuildSettings = BuildSettings()

    def faraday_fields(self) -> dict[str, Any]:
        """Return the fields that the API returns: everything except ``sandbox``."""
        return self.model_dump(exclude={"sandbox"})


class ScopeSpec(ResourceSpec):
    """A scope."""

    sandbox: ScopeSettings = ScopeSettings()


class DatasetSpec(ResourceSpec):
    """A dataset."""

    connection_id: Id | None = None


class AccountSpec(ResourceSpec):
    """The account itself."""

    name: str = "Sandbox"


class AccountFile(BaseModel):
    """The content of an account file.

    :param page_size: page length of list endpoints; by default lists are not paginated
    """

    model_config = ConfigDict(extra="forbid")

    account: AccountSpec = Field(default_factory=AccountSpec)
    page_size: int | None = Field(default=None, ge=1)
    connections: list[ResourceSpec] = []
    scopes: list[ScopeSpec] = []
    datasets: list[DatasetSpec] = []

    @model_validator(mode="after")
    def _check_ids(self) -> AccountFile:
        connection_ids = _unique_ids("connections", self.connections)
        _unique_ids("scopes", self.scopes)
        dataset_ids = _unique_ids("datasets", self.datasets)
        for index, dataset in enumerate(self.datasets):
            if dataset.connection_id is not None and dataset.connection_id not in connection_ids:
                raise ValueError(f"datasets.{index}.connection_id: no connection {dataset.connection_id}")
        for index, scope in enumerate(self.scopes):
            for dataset_id in scope.sandbox.dataset_ids:
                if dataset_id not in dataset_ids:
                    raise ValueError(f"scopes.{index}.sandbox.dataset_ids: no dataset {dataset_id}")
        return self


def _unique_ids(key: str, specs: list[Any]) -> set[str]:
    ids: set[str] = set()
    for index, spec in enumerate(specs):
        if spec.id in ids:
            raise ValueError(f"{key}.{index}.id: duplicate id {spec.id}")
        ids.add(spec.id)
    return ids


def load(source: str | Path | dict[str, Any] | None = None) -> AccountFile:
    """Return a validated account.

    :param source: path of a JSON file, its parsed content, or None for the bundled account
    :raises SandboxError: the file cannot be read, or its content is invalid
    """
    if isinstance(source, dict):
        return _validate("Account", source)
    path = files("airflow_provider_faraday.sandbox") / "account.json" if source is None else Path(source)
    name = f"Account file '{path}'"
    try:
        return _validate(name, json.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise SandboxError(f"{name} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise SandboxError(f"{name} is not UTF-8 text.") from error
    except json.JSONDecodeError as error:
        raise SandboxError(f"{name} is not valid JSON: {error}.") from error


def _validate(name: str, content: object) -> AccountFile:
    try:
        return AccountFile.model_validate(content)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"])
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{place}: {message}" if place else message)
        raise SandboxError(f"{name} is invalid: {'; '.join(problems)}.") from error

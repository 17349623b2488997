"""What an account file says: a JSON description of connections, scopes, datasets and how their builds go.

::

    {
      "account": {"id": "…", "name": "Acme Outfitters"},
      "page_size": 50,
      "connections": [{"id": "…", "name": "Warehouse"}],
      "scopes": [{"id": "…", "name": "Likely buyers", "sandbox": {"dataset_ids": ["…"]}}],
      "datasets": [
        {
          "id": "…", "name": "customers", "connection_id": "…",
          "options": {"type": "snowflake", "table_name": "customers"},
          "sandbox": {"new": 0.5, "starting": 0.5, "running": 2, "rows": 1000, "outcome": "ready"}
        }
      ]
    }

- Every key but ``name`` (and the ``sandbox.dataset_ids`` that a scope is about) may be left out. Ids are
  UUIDs; one that is left out is made up anew at each start.
- ``page_size``: list endpoints answer in pages of that many. Left out, they answer whole, as Faraday's do.
- A connection, scope or dataset may hold any field of Faraday's; it is served as it stands here.
- ``sandbox`` holds what Faraday knows nothing of, and is never served. For a dataset (times in seconds at
  speed 1):

  ``new``, ``starting``, ``running``
      how long a build stays in that status (0.5, 0.5 and 2). The first build begins when the sandbox does.
  ``lag``
      how long the old status still stands after ``force_update``, before the rerun begins (1)
  ``outcome``
      how builds end: ``ready`` or ``error``
  ``status_error``
      why, when they end in ``error``
  ``rows``, ``rows_per_update``
      rows that the first successful build adds (1000), and each later one (100)

- A dataset that is given a ``status`` has no first build: it stands in that status, whatever it is, until
  ``force_update`` or the control surface moves it.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator


class AccountFileError(Exception):
    """An account file that cannot be used; the text is a sentence that names the place."""


def canonical_uuid(value: str) -> str:
    """The lower-case form of a UUID with hyphens; the only form that Faraday writes.

    :raises ValueError: when the text is not such a UUID
    """
    try:
        canonical = str(UUID(value))
    except ValueError:
        canonical = ""
    # UUID() also takes braces, urn: and bare hex digits, none of which is an id in a Faraday path.
    if canonical != value.lower():
        raise ValueError("must be a UUID")
    return canonical


Id = Annotated[str, AfterValidator(canonical_uuid)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def new_id() -> str:
    return str(uuid4())


class BuildSettings(BaseModel):
    """How the builds of one dataset go."""

    model_config = ConfigDict(extra="forbid")

    new: Seconds = 0.5
    starting: Seconds = 0.5
    running: Seconds = 2.0
    lag: Seconds = 1.0
    outcome: Literal["ready", "error"] = "ready"
    status_error: str = "The sandbox was told that builds of this dataset end in an error."
    rows: int = Field(default=1000, ge=0)
    rows_per_update: int = Field(default=100, ge=0)


class ResourceSpec(BaseModel):
    """What every resource has; fields beyond those named are Faraday's and pass through."""

    model_config = ConfigDict(extra="allow")

    id: Id = Field(default_factory=new_id)
    name: str = Field(min_length=1)

    def faraday_fields(self) -> dict[str, Any]:
        """The fields to serve: everything but ``sandbox``."""
        return self.model_dump(exclude={"sandbox"}, exclude_none=False)


class ConnectionSpec(ResourceSpec):
    """A Faraday connection."""


class ScopeSettings(BaseModel):
    """The datasets behind a scope's population cohorts (the sandbox has no cohorts in between)."""

    model_config = ConfigDict(extra="forbid")

    dataset_ids: list[Id] = []


class ScopeSpec(ResourceSpec):
    """A scope."""

    sandbox: ScopeSettings = ScopeSettings()


class DatasetSpec(ResourceSpec):
    """A dataset."""

    connection_id: Id | None = None
    sandbox: BuildSettings = BuildSettings()


class AccountSpec(BaseModel):
    """The account itself; its API key is the sandbox's own."""

    model_config = ConfigDict(extra="allow")

    id: Id = Field(default_factory=new_id)
    name: str = "Sandbox"


class AccountFile(BaseModel):
    """A whole account file."""

    model_config = ConfigDict(extra="forbid")

    account: AccountSpec = Field(default_factory=AccountSpec)
    page_size: int | None = Field(default=None, ge=1)
    connections: list[ConnectionSpec] = []
    scopes: list[ScopeSpec] = []
    datasets: list[DatasetSpec] = []

    @model_validator(mode="after")
    def _check_references(self) -> AccountFile:
        for kind, resources in (
            ("connections", self.connections),
            ("scopes", self.scopes),
            ("datasets", self.datasets),
        ):
            seen: set[str] = set()
            for position, resource in enumerate(resources):
                if resource.id in seen:
                    raise ValueError(f"{kind}.{position}.id: {resource.id} is there twice")
                seen.add(resource.id)
        connection_ids = {connection.id for connection in self.connections}
        for position, dataset in enumerate(self.datasets):
            if dataset.connection_id is not None and dataset.connection_id not in connection_ids:
                raise ValueError(
                    f"datasets.{position}.connection_id: there is no connection {dataset.connection_id}"
                )
        dataset_ids = {dataset.id for dataset in self.datasets}
        for position, scope in enumerate(self.scopes):
            for dataset_id in scope.sandbox.dataset_ids:
                if dataset_id not in dataset_ids:
                    raise ValueError(
                        f"scopes.{position}.sandbox.dataset_ids: there is no dataset {dataset_id}"
                    )
        return self


def load(source: str | Path | dict[str, Any] | None = None) -> AccountFile:
    """Read an account.

    :param source: path of a JSON file, or what such a file holds, or None for the bundled account
    :raises AccountFileError: with a sentence that names the file and the place in it
    """
    if isinstance(source, dict):
        return _validate(source, "the account")
    if source is None:
        bundled = files("airflow_provider_faraday.sandbox").joinpath("account.json")
        return _validate(json.loads(bundled.read_text(encoding="utf-8")), "the bundled account")
    name = f"account file {str(source)!r}"
    try:
        text = Path(source).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AccountFileError(f"Cannot read {name}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise AccountFileError(f"Cannot read {name}: it is not UTF-8 text.") from error
    try:
        content = json.loads(text)
    except ValueError as error:
        raise AccountFileError(f"{_capital(name)} is not JSON: {error}.") from error
    return _validate(content, name)


def _validate(content: object, name: str) -> AccountFile:
    try:
        return AccountFile.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(problem_sentence(problem["loc"], problem["msg"]) for problem in error.errors())
        raise AccountFileError(f"{_capital(name)} is not a sandbox account: {problems}.") from error


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def problem_sentence(location: tuple[int | str, ...], message: str) -> str:
    """One problem that pydantic found, with its place in front: ``datasets.0.id: must be a UUID``."""
    place = ".".join(str(part) for part in location)
    text = message.removeprefix("Value error, ")
    return f"{place}: {text}" if place else text

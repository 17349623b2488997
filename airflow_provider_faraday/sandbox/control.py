"""What a sandbox can be told to do, and asked, besides being a Faraday API: for people, tests and demos."""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airflow_provider_faraday.sandbox.account import Account, Change, Clock, Document, rfc3339
from airflow_provider_faraday.sandbox.account_file import AccountFile, DatasetSpec, problem_sentence
from airflow_provider_faraday.sandbox.errors import FaradayError
from airflow_provider_faraday.sandbox.faults import Fault, Faults

# Enough for every test and a day of demos; a sandbox left running must not grow for ever.
REQUESTS_KEPT = 100_000


class DatasetChange(BaseModel):
    """A change of a dataset: any field of Faraday's, and what to do besides.

    :param unset: fields to leave out of the dataset from now on
    :param archived: True archives it, False brings it back
    :param config_changed: as if its configuration had been changed now: ``last_updated_config_at`` is later
        than ``last_updated_output_at``
    :param rebuild: begin a build now
    :param sandbox: settings of later builds, see :mod:`~airflow_provider_faraday.sandbox.account_file`
    """

    model_config = ConfigDict(extra="allow")

    unset: list[str] = []
    archived: bool | None = None
    config_changed: bool = False
    rebuild: bool = False
    sandbox: dict[str, Any] = {}

    def to_change(self) -> Change:
        return Change(
            fields=dict(self.model_extra or {}),
            unset=tuple(self.unset),
            archived=self.archived,
            config_changed=self.config_changed,
            rebuild=self.rebuild,
            settings=self.sandbox,
        )


class Settings(BaseModel):
    """What can be set while the sandbox runs; what is left out stays as it is.

    :param page_size: page length of the list endpoints; null for whole lists
    :param clock_offset: seconds that the sandbox's clock is ahead of the machine's. Moving it ahead also lets
        builds come to their end
    """

    model_config = ConfigDict(extra="forbid")

    page_size: int | None = Field(default=None, ge=1)
    clock_offset: float = 0.0


class Control:
    """A sandbox without its HTTP: its account, its key, its faults and its log.

    :param content: the account's description
    :param api_key: the key that requests must carry
    :param speed: how many times faster than described the builds go
    :param clock_offset: seconds that the sandbox's clock is ahead of the machine's
    """

    def __init__(self, content: AccountFile, *, api_key: str, speed: float, clock_offset: float) -> None:
        self._content = content
        self._initial_key = api_key
        self._initial_offset = clock_offset
        self._speed = speed
        self.clock = Clock()
        self.faults = Faults()
        self._requests: deque[Document] = deque(maxlen=REQUESTS_KEPT)
        self.reset()

    def reset(self) -> None:
        """Start over: account, key, clock and page size as at the start, no faults, an empty log."""
        self.clock.offset = self._initial_offset
        self.page_size = self._content.page_size
        self.api_key = self._initial_key
        self._expired_keys: set[str] = set()
        self.faults.clear()
        self._requests.clear()
        self.account = Account(self._content, self.clock, self._speed)

    def check_key(self, authorization: str | None) -> None:
        """Check an ``Authorization`` header.

        :raises FaradayError: 401 or 400, as Faraday would
        """
        if authorization is None or not authorization.strip():
            raise FaradayError(401, "No API key was supplied.", code="MISSING_API_KEY")
        scheme, _, key = authorization.strip().partition(" ")
        if scheme.lower() != "bearer":
            raise FaradayError(
                400,
                "The Authorization header could not be parsed: it must read 'Bearer <API key>'.",
                code="INVALID_AUTHORIZATION",
            )
        key = key.strip()
        if not key:
            raise FaradayError(401, "No API key was supplied.", code="MISSING_API_KEY")
        if key in self._expired_keys:
            raise FaradayError(401, "The supplied API key has expired.", code="EXPIRED_API_KEY")
        if not hmac.compare_digest(key.encode(), self.api_key.encode()):
            raise FaradayError(401, "The supplied API key is malformed or unknown.", code="MALFORMED_API_KEY")

    def rotate_key(self, new: str) -> None:
        """Take another API key; the present one is answered ``EXPIRED_API_KEY`` from now on."""
        check_key_text(new)
        if new != self.api_key:
            self._expired_keys.add(self.api_key)
        self._expired_keys.discard(new)
        self.api_key = new

    def datasets(self) -> list[Document]:
        """Each dataset in short: id, name, status, times, and which statuses come next."""
        return self.account.summary()

    def dataset(self, dataset_id: str) -> Document:
        """One dataset as Faraday shows it now."""
        return self.account.dataset(dataset_id)

    def add_dataset(self, **spec: Any) -> Document:
        """Add a dataset, described as in an account file; its first build begins now.

        :return: the dataset
        """
        return self.account.add(DatasetSpec.model_validate(spec))

    def set_dataset(self, dataset_id: str, **changes: Any) -> Document:
        """Change a dataset: any Faraday field, or what :class:`DatasetChange` names.

        :return: the dataset after it
        """
        change = DatasetChange.model_validate(changes).to_change()
        try:
            return self.account.change(dataset_id, change)
        except ValidationError as error:
            problem = error.errors()[0]
            text = problem_sentence(("sandbox", *problem["loc"]), problem["msg"])
            raise FaradayError(400, text, code="VALIDATION_FAILED") from error

    def remove_dataset(self, dataset_id: str) -> None:
        self.account.remove(dataset_id)

    def force_update(self, dataset_id: str) -> None:
        """Ask for a rerun, as the API's endpoint of that name does."""
        self.account.force_update(dataset_id)

    def fail_next(self, times: int = 1, **fault: Any) -> None:
        """Make the next answers go wrong; see :class:`~airflow_provider_faraday.sandbox.faults.Fault`."""
        self.faults.add(Fault.model_validate({"times": times, **fault}))

    def clear_faults(self) -> None:
        self.faults.clear()

    def history(self) -> list[Document]:
        """Every change of status so far: ``at``, ``dataset_id``, ``name``, ``status``, ``status_error``."""
        return self.account.history()

    def requests(self, path: str | None = None) -> list[Document]:
        """The requests so far, oldest first, those to the control surface left out.

        :param path: only those to this very path
        """
        return [entry for entry in list(self._requests) if path is None or entry["path"] == path]

    def clear_requests(self) -> None:
        self._requests.clear()

    def log_request(self, entry: Document) -> None:
        self._requests.append(entry)

    def settings(self) -> Document:
        return {
            "page_size": self.page_size,
            "clock_offset": self.clock.offset,
            "speed": self._speed,
            "now": rfc3339(self.clock.now()),
        }

    def set(self, **settings: Any) -> None:
        """Set ``page_size`` or ``clock_offset``; see :class:`Settings`."""
        self.apply(Settings.model_validate(settings))

    def apply(self, settings: Settings) -> None:
        changed: Mapping[str, Any] = settings.model_dump(exclude_unset=True)
        if "page_size" in changed:
            self.page_size = settings.page_size
        if "clock_offset" in changed:
            self.clock.offset = settings.clock_offset

    def advance(self, seconds: float) -> None:
        """Move the sandbox's clock ahead, and every build with it."""
        self.clock.offset += seconds


def check_key_text(key: str) -> None:
    """:raises FaradayError: when the text cannot be an API key"""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise FaradayError(
            400, "An API key is printable ASCII text without white space.", code="VALIDATION_FAILED"
        )

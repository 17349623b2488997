"""Describe a sensor's wait: what Faraday is like, how it changes meanwhile, and how the wait must end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.api.resources import RESOURCE_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from airflow_provider_faraday.sandbox import Sandbox


@dataclass(frozen=True)
class Scene:
    """A sandbox, and a function that changes the Airflow connection to it."""

    sandbox: Sandbox
    set_connection: Callable[..., None]


Step = Callable[[Scene], object]
"""A change of the scene."""


def dataset(id_: str, **changes: Any) -> Step:
    """Change a dataset."""
    return lambda scene: scene.sandbox.set_dataset(id_, **changes)


def respond(times: int = 1, **fault: Any) -> Step:
    """Replace the next responses."""
    return lambda scene: scene.sandbox.fail_next(times=times, **fault)


def both(*steps: Step) -> Step:
    """Take several steps at once."""
    return lambda scene: [step(scene) for step in steps]


@dataclass(frozen=True)
class Wait:
    """One row of the table of waits.

    :param name: what this wait is about
    :param sensor: arguments of the sensor, without its mode
    :param start: the state of Faraday when the wait begins; by default, every dataset is ready
    :param changes: what changes after how many requests, before the next one gets its response
    :param state: the final state of the task
    :param error: the exception class of each failed try
    :param says: words in the text of each exception
    :param logs: for each of these tuples, one log line has all of its words
    :param returns: ids of the returned resources, or None if the task returns nothing
    :param polls: the number of polls, or that of each try; None if it depends on the clock
    :param extra_requests: the number of requests beyond one for each poll
    """

    name: str
    sensor: dict[str, Any]
    start: Step = lambda scene: None
    changes: dict[int, Step] = field(default_factory=dict)
    state: str = "success"
    error: type[Exception] | None = None
    says: tuple[str, ...] = ()
    logs: tuple[tuple[str, ...], ...] = ()
    returns: tuple[str, ...] | None = None
    polls: int | tuple[int, ...] | None = None
    extra_requests: int = 0

    def __str__(self) -> str:
        return self.name.replace(" ", "_")

    @property
    def polls_per_try(self) -> tuple[int, ...]:
        """The number of polls of each try, or nothing if that depends on the clock."""
        return self.polls if isinstance(self.polls, tuple) else (self.polls,) if self.polls else ()

    @property
    def failed_tries(self) -> int:
        """The number of tries that must fail."""
        tries = max(len(self.polls_per_try), 1)
        return tries if self.state == "failed" else tries - 1

    def expected_xcom(self, sandbox: Sandbox) -> list[dict[str, Any]] | None:
        """Return the resources as the sensor must return them."""
        if self.returns is None:
            return None
        fields = self.sensor.get("fields")
        excluded = RESOURCE_TYPES["datasets"].excluded_fields
        return [
            {
                name: value
                for name, value in sandbox.dataset(id_).items()
                if (name not in excluded if fields is None else name in fields)
            }
            for id_ in self.returns
        ]


def missing(words: Iterable[str], text: str) -> list[str]:
    """Return the words that are not in a text, in upper or lower case."""
    return [word for word in words if word.lower() not in text.lower()]


@contextmanager
def playing(changes: dict[int, Step], scene: Scene) -> Iterator[list[Exception]]:
    """Take each step after so many requests: the next one has arrived, but has no response yet.

    :return: the exceptions of these steps, and one for each step that was not reached
    """
    errors: list[Exception] = []
    log_request = scene.sandbox.log_request
    remaining = dict(changes)

    def change_and_log(entry: dict[str, Any]) -> None:
        step = remaining.pop(len(scene.sandbox.requests()), None)
        log_request(entry)
        if step is not None:
            try:
                step(scene)
            except Exception as error:
                errors.append(error)

    scene.sandbox.log_request = change_and_log  # type: ignore[method-assign]
    try:
        yield errors
    finally:
        del scene.sandbox.log_request
        errors += [AssertionError(f"there was no request after request {number}") for number in remaining]

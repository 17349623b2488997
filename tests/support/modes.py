"""Run a sensor on a worker or in the triggerer, without a scheduler. Each process has a new operator."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import BaseTrigger

MODES = ("poke", "deferrable")
SECONDS = 60
"""How long a test waits for an outcome."""


def outcome(build: Callable[..., Any], mode: str) -> Any:
    """Return what a sensor or operator returns in a mode; its exceptions are raised.

    :param build: returns a new operator, with ``deferrable`` and further arguments.
    """
    try:
        return build(deferrable=mode == "deferrable").execute({"task_reschedule_count": 0})
    except TaskDeferred as error:
        deferral = error
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        event = event_of(deferral.trigger)
        kwargs = json.loads(json.dumps(deferral.kwargs))
        try:
            return getattr(build(deferrable=True), deferral.method_name)({}, event, **kwargs)
        except TaskDeferred as error:
            deferral = error
    raise AssertionError("The wait did not end.")


def event_of(trigger: BaseTrigger) -> Any:
    """Return the payload of a trigger's event, as Airflow stores it."""

    async def first() -> Any:
        return await asyncio.wait_for(anext(aiter(trigger.run())), SECONDS)

    path, arguments = trigger.serialize()
    assert path
    trigger = type(trigger)(**json.loads(json.dumps(arguments)))
    return json.loads(json.dumps(asyncio.run(first()).payload))


def deferral_of(operator: Any) -> TaskDeferred:
    """Return how an operator defers."""
    try:
        operator.execute({"task_reschedule_count": 0})
    except TaskDeferred as deferral:
        return deferral
    raise AssertionError("The task did not defer.")

"""HTTP statuses that do not end a wait after a successful poll."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_faraday.exceptions import FaradayApiError
from airflow_provider_faraday.sensors.targets import TargetsReadySensor
from raw_server import answer
from support.accounts import Account, id_of
from support.graphs import node
from support.modes import MODES, outcome

Serve = Callable[[Account], Account]

DATASET, TARGET = (id_of(kind) for kind in (13, 7))


def sensor(**mode: Any) -> TargetsReadySensor:
    return TargetsReadySensor(
        task_id="gate", targets=[TARGET], include_upstream=True, poke_interval=0.02, timeout=10, **mode
    )


def failing_once(path: str, status: int) -> Account:
    """Return an account in which the second request for a path fails."""
    dataset, target = node(DATASET, "datasets"), node(TARGET, "targets", status="running")
    account = Account(dataset, target, links=[(dataset, target)])

    def fail() -> None:
        account.steps[path] = answer(status, b"<html>from a proxy</html>")

    def recover() -> None:
        account.steps.clear()
        target["status"] = "ready"

    account.script = [fail, recover]
    return account


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("status", [507, 520, 521, 522, 523, 524, 529])
def test_a_server_error_is_waited_out(serve: Serve, status: int, mode: str) -> None:
    account = serve(failing_once("/graph" if status == 524 else "/targets", status))
    assert [each["id"] for each in outcome(sensor, mode)] == [TARGET]
    assert account.polls >= 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("status", [501, 505])
def test_a_status_that_will_not_change_ends_the_wait(serve: Serve, status: int, mode: str) -> None:
    serve(failing_once("/targets", status))
    with pytest.raises(FaradayApiError, match=str(status)) as caught:
        outcome(sensor, mode)
    assert caught.value.status_code == status

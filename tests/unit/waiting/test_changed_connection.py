"""Changes of the Airflow connection while triggers are waiting."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from raw_server import RawServer, answer
from support.accounts import id_of
from support.certificates import certified
from support.ids import SCOPE
from support.triggers import run, triggerer, until, waiting_for

Connect = Callable[..., None]

pytestmark = pytest.mark.usefixtures("short_waits")

LOCALHOST = x509.DNSName("localhost")


def targets(status: str, **headers: str) -> Any:
    return answer(body=[{"id": id_of(7), "name": "Buyers table", "status": status}], headers=headers)


def refresh_after(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set the seconds after which triggers look up the Airflow connection again, which is a minute."""
    try:
        account = importlib.import_module("airflow_provider_faraday.waiting.account")
    except ImportError:
        return
    monkeypatch.setattr(account, "REFRESH_SECONDS", seconds, raising=False)


def sent_to(server: RawServer, password: str) -> bool:
    return any(request.headers["authorization"] == f"Bearer {password}" for request in server.received)


def test_a_trigger_that_starts_after_a_change_polls_the_new_server_with_the_new_key(
    set_connection: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh_after(monkeypatch, 3600)
    with RawServer([targets("running")]) as old, RawServer([targets("ready")]) as new:
        set_connection(old.url, password="old-key")

        async def test() -> None:
            async with triggerer() as waiting:
                waiting.start(waiting_for(scope_id=SCOPE))
                await until(lambda: len(old.received) >= 2)
                set_connection(new.url, password="new-key")
                event = await waiting.event(waiting_for(scope_id=SCOPE))
                assert event["status"] == "ready"

        run(test)
        assert sent_to(new, "new-key")
        assert not sent_to(new, "old-key")
        assert not sent_to(old, "new-key")


def test_a_trigger_that_waits_polls_the_new_server_soon(
    set_connection: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh_after(monkeypatch, 0.2)
    with RawServer([targets("running")]) as old, RawServer([targets("ready")]) as new:
        set_connection(old.url, password="old-key")

        async def test() -> None:
            async with triggerer() as waiting:
                event = waiting.start(waiting_for(scope_id=SCOPE))
                await until(lambda: len(old.received) >= 2)
                set_connection(new.url, password="new-key")
                await until(event.done)
                assert event.result()["status"] == "ready"

        run(test)
        assert not sent_to(new, "old-key")


@pytest.mark.parametrize("source", [{"scope_id": SCOPE}, {"resource_ids": [id_of(7)]}])
def test_a_key_of_another_account_is_used_although_the_old_one_still_works(
    set_connection: Connect, monkeypatch: pytest.MonkeyPatch, source: dict[str, Any]
) -> None:
    refresh_after(monkeypatch, 0.2)

    def respond(request: Any) -> Any:
        return targets("ready" if request.headers["authorization"] == "Bearer new-key" else "running")

    with RawServer(respond) as server:
        set_connection(server.url, password="old-key")

        async def test() -> None:
            async with triggerer() as waiting:
                event = waiting.start(waiting_for(**source))
                await until(lambda: len(server.received) >= 2)
                set_connection(server.url, password="new-key")
                await until(event.done)
                assert event.result()["status"] == "ready"

        run(test)


def test_a_proxy_that_is_added_is_used(set_connection: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    refresh_after(monkeypatch, 0.2)
    with RawServer([targets("running")]) as server, RawServer([targets("ready")]) as proxy:
        set_connection(server.url)

        async def test() -> None:
            async with triggerer() as waiting:
                event = waiting.start(waiting_for(scope_id=SCOPE))
                await until(lambda: len(server.received) >= 2)
                set_connection(server.url, proxy=proxy.url.removesuffix("/v1"))
                await until(event.done)
                assert event.result()["status"] == "ready"

        run(test)
        assert proxy.targets[0].startswith(f"{server.url}/scopes/")


@pytest.mark.parametrize("replaced", ["in place", "by another file"])
def test_a_ca_bundle_that_is_replaced_is_used(
    set_connection: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, replaced: str
) -> None:
    refresh_after(monkeypatch, 0.2)
    renewed = tmp_path if replaced == "in place" else tmp_path / "renewed"
    renewed.mkdir(exist_ok=True)
    old = RawServer([targets("running", Connection="close")], tls=certified(tmp_path, LOCALHOST))
    url = f"https://localhost:{old.port}/v1"
    set_connection(url, verify=str(tmp_path / "server.pem"))

    async def test() -> None:
        async with triggerer() as waiting:
            with old:
                event = waiting.start(waiting_for(scope_id=SCOPE))
                await until(lambda: len(old.received) >= 2)
            with RawServer([targets("ready")], tls=certified(renewed, LOCALHOST), port=old.port):
                set_connection(url, verify=str(renewed / "server.pem"))
                await until(event.done)
                assert event.result()["status"] == "ready"

    run(test)


def test_a_connection_that_cannot_be_looked_up_for_a_while_does_not_end_a_wait(
    set_connection: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh_after(monkeypatch, 0.05)
    with RawServer([targets("running")]) as old, RawServer([targets("ready")]) as new:
        set_connection(old.url)

        async def test() -> None:
            async with triggerer() as waiting:
                event = waiting.start(waiting_for(scope_id=SCOPE))
                await until(lambda: len(old.received) >= 2)
                monkeypatch.delenv("AIRFLOW_CONN_FARADAY_DEFAULT")
                seen = len(old.received)
                await until(lambda: len(old.received) >= seen + 4)
                assert not event.done()
                set_connection(new.url)
                await until(event.done)
                assert event.result()["status"] == "ready"

        run(test)

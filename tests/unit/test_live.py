"""`make live` with the sandbox, and with an API that differs: what it says, shows and leaves."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

import assumptions
import live
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.sandbox import Sandbox
from support import scripts
from support.ids import ORDERS, TARGET, WAREHOUSE

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "scripts" / "live.py")
SECRET = "Zebra-7391"
LONG_AGO = "2020-01-01T00:00:00Z"

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def keep_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave Ctrl-C to pytest."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)


@pytest.fixture
def account(sandbox: Sandbox, faraday_default: Callable[..., None]) -> Sandbox:
    """Return a sandbox that can show all that is asked about, and whose requests are not retried."""
    faraday_default(extra=json.dumps({"max_attempts": 1}))
    sandbox.set_resource("connections", WAREHOUSE, options={"type": "postgres", "password": SECRET})
    headers = {"Authorization": f"Bearer {sandbox.api_key}", "Content-Type": "application/octet-stream"}
    requests.post(f"{sandbox.url}/uploads/web_orders/a.csv", data=b"id\n1\n", headers=headers, timeout=10)
    sandbox.advance(600)
    sandbox.clear_requests()
    return sandbox


def ask(*, write: bool = False) -> bool:
    return live.run(live.Faraday(FaradayHook()), write=write)


def verdicts(output: str) -> dict[str, str]:
    """Return the verdict of each line by the id of its assumption."""
    lines = re.findall(r"^(as assumed|differs|not seen) +([a-z-]+): ", output, re.MULTILINE)
    return {id_: verdict for verdict, id_ in lines}


def all_with(verdict: str, **others: str) -> dict[str, str]:
    return {each.id: verdict for each in assumptions.ASSUMPTIONS} | others


def test_the_sandbox_is_as_assumed(account: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(write=True)

    assert verdicts(capsys.readouterr().out) == all_with("as assumed")
    assert [each["subpath"] for each in account.uploads()] == ["web_orders/a.csv"]
    assert account.webhooks.all() == []


def test_nothing_is_created_by_default(account: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    ask()

    found = verdicts(capsys.readouterr().out)
    written = {each.id for each in assumptions.ASSUMPTIONS if each.writes}
    assert {id_ for id_, verdict in found.items() if verdict == "not seen"} == written
    assert {each["method"] for each in account.requests()} == {"GET"}


def listed(sandbox: Sandbox, **changes: Any) -> list[dict[str, Any]]:
    """Return the datasets with changes to the first one."""
    first, *others = sandbox.resources("datasets")
    return [first | changes, *others]


def uploaded_after_the_build(sandbox: Sandbox) -> dict[str, Any]:
    upload = {
        "subpath": "web_orders/a.csv",
        "file_size": 5,
        "md5_hash": "",
        "created_at": "2020-02-02T00:00:00Z",
    }
    sandbox.fail_next(path="/uploads$", body=[upload])
    built = [each | {"last_updated_output_at": LONG_AGO} for each in sandbox.resources("datasets")]
    return {"path": "/datasets$", "body": built}


Deviation = Callable[[Sandbox], dict[str, Any]]
ANY_ID = "[0-9a-f-]{36}"
DEVIATIONS: dict[str, Deviation] = {
    "account": lambda _: {"path": "/accounts/current$", "body": {"name": "no id"}},
    "errors": lambda _: {"path": f"/datasets/{ANY_ID}$", "status": 404, "body": {"message": "not found"}},
    "lists": lambda _: {"path": "/cohorts$", "status": 404},
    "whole-lists": lambda s: {
        "path": "/datasets$",
        "headers": {"Link": f'<{s.url}/datasets?p=2>; rel="next"'},
    },
    "statuses": lambda s: {"path": "/datasets$", "body": listed(s, status="pending")},
    "timestamps": lambda s: {"path": "/datasets$", "body": listed(s, updated_at="2024-01-02 03:04:05")},
    "input-times": lambda s: {"path": "/datasets$", "body": listed(s, last_updated_output_at=LONG_AGO)},
    "archived": lambda s: {
        "path": "/datasets$",
        "body": [each for each in s.resources("datasets") if not each.get("archived_at")],
    },
    "unknown-ids": lambda s: {"path": "/datasets$", "body": s.resources("datasets")},
    "number-of-ids": lambda _: {"path": "/datasets$", "body": []},
    "graph-nodes": lambda _: {"path": "/graph$", "body": []},
    "graph-states": lambda s: {"path": "/datasets$", "body": listed(s, last_updated_output_at=LONG_AGO)},
    "ingress-logs": lambda _: {"path": "/logs/ingress$", "body": []},
    "download": lambda _: {
        "path": r"/download\.csv$",
        "status": 302,
        "headers": {"Location": "ftp://a.example/"},
    },
    "credentials": lambda _: {
        "path": "/connections$",
        "body": [{"id": WAREHOUSE, "options": {"password": "********"}}],
    },
    "upload-builds": uploaded_after_the_build,
    "uploaded-files": lambda _: {"path": "/uploads$", "body": []},
    "webhook-secrets": lambda _: {"path": f"/webhook_endpoints/{ANY_ID}$", "method": "GET", "body": {}},
    "merge-patch": lambda _: {"path": "/webhook_endpoints/", "method": "PATCH", "body": {}},
    "dates": lambda _: {"path": "/scopes$", "headers": {"Date": ""}},
    "etags": lambda _: {"path": "/scopes$", "headers": {"ETag": '"1"'}},
}


@pytest.mark.parametrize("each", assumptions.ASSUMPTIONS, ids=lambda each: each.id)
def test_what_is_not_as_assumed_differs(account: Sandbox, each: assumptions.Assumption) -> None:
    account.fail_next(times=1000, **DEVIATIONS[each.id](account))
    faraday = live.Faraday(FaradayHook())
    # For what looks at all responses.
    faraday.resources("scopes")

    found = assumptions.answer(lambda: each.ask(faraday))

    assert found.as_assumed is False, found
    assert faraday.remove() == []


def test_ingress_logs_that_are_listed_oldest_first_differ(
    account: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = account.ingress_logs
    monkeypatch.setattr(account, "ingress_logs", lambda id_: listed(id_)[::-1])
    FaradayHook().force_update_dataset(ORDERS)
    account.advance(600)

    found = assumptions.answer(lambda: assumptions.ingress_logs(live.Faraday(FaradayHook())))

    assert found.as_assumed is False, found


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        ({"status": 500}, "not seen"),
        ({"broken": "dropped"}, "not seen"),
        ({"broken": "html"}, "differs"),
        ({"body": SECRET}, "differs"),
        ({"status": 403, "body": {"error": SECRET, "note": SECRET}}, "differs"),
        ({"body": [{"id": SECRET, SECRET: SECRET, "status": SECRET, "options": SECRET}]}, "differs"),
    ],
)
def test_an_api_that_fails_is_described_without_what_it_returned(
    account: Sandbox, fault: dict[str, Any], verdict: str, capsys: pytest.CaptureFixture[str]
) -> None:
    account.fail_next(times=1000, **fault)

    ask(write=True)

    output = capsys.readouterr().out
    assert SECRET not in output
    found = verdicts(output)
    assert found.keys() == all_with("").keys()
    assert (found["account"], found["lists"]) == (verdict, verdict)


def test_a_list_that_fails_is_not_taken_for_an_empty_one(
    account: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    account.fail_next(times=1000, path="/datasets$", status=500)

    ask()

    assert "differs" not in verdicts(capsys.readouterr().out).values()


def test_an_empty_account_shows_little(account: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    # They answer requests for 101 ids, too.
    for resource_type in live.RESOURCE_TYPES:
        account.fail_next(times=1000, path=f"/{resource_type}$", body=[])
    account.fail_next(times=1000, path="/graph$", body=[])
    account.fail_next(times=1000, path="/uploads$", body=[])

    ask()

    found = verdicts(capsys.readouterr().out)
    assert {id_ for id_, verdict in found.items() if verdict == "differs"} == {"number-of-ids"}
    for id_ in (
        "statuses",
        "timestamps",
        "input-times",
        "archived",
        "graph-nodes",
        "graph-states",
        "download",
    ):
        assert found[id_] == "not seen"


# What it shows, and what it leaves


def test_nothing_of_the_account_is_shown_or_recorded(
    account: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(live, "SAMPLES", tmp_path)
    secrets = {"name": SECRET, "sample": [{SECRET: SECRET}], "status": "error", "status_error": SECRET}
    account.set_resource("datasets", ORDERS, **secrets, output_to_traits={SECRET: SECRET}, row_count=73917391)
    account.set_resource("targets", TARGET, options={"type": "hosted_csv", "output_url": SECRET})
    known = {each["id"] for each in account.summaries()}

    faraday = live.Faraday(FaradayHook())
    live.run(faraday, write=True)
    live.record(faraday.responses)

    shown = capsys.readouterr().out + "".join(each.name + each.read_text() for each in tmp_path.iterdir())
    assert {each.name for each in tmp_path.iterdir()} >= {"GET_datasets_200.json", "GET_graph_200.json"}
    assert '"status": "ready"' in shown
    assert not re.search(r"whsec_\w", shown)
    for secret in (SECRET, "73917391", account.api_key, "Acme", *known):
        assert secret not in shown, secret


def test_what_was_created_is_removed_if_it_is_interrupted_twice(account: Sandbox, tmp_path: Path) -> None:
    account.fail_next(method="DELETE", delay=1, status=503)
    process = scripts.start(SCRIPT, "--write", temporary=tmp_path)

    for method, stop in (("POST", signal.SIGHUP), ("DELETE", signal.SIGTERM)):
        while not account.requests(method=method) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(stop)

    assert "Interrupted" in process.communicate(timeout=60)[1]
    assert [each["subpath"] for each in account.uploads()] == ["web_orders/a.csv"]


def test_what_was_created_is_removed_if_the_response_is_lost(account: Sandbox) -> None:
    account.fail_next(times=2, method="POST", broken="dropped", processed=True)
    account.fail_next(times=2, method="DELETE", status=503, processed=True)

    ask(write=True)

    assert [each["subpath"] for each in account.uploads()] == ["web_orders/a.csv"]
    assert account.webhooks.all() == []


def test_what_cannot_be_removed_is_named(account: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    account.fail_next(times=1000, method="DELETE", status=503)

    assert not ask(write=True)

    (left,) = (each["subpath"] for each in account.uploads() if "check" in each["subpath"])
    assert f"Could not remove the upload {left}" in capsys.readouterr().out


def test_the_script_exits_with_a_status(
    account: Sandbox, faraday_default: Callable[..., None], tmp_path: Path
) -> None:
    faraday_default()

    good = scripts.run(SCRIPT, temporary=tmp_path)
    account.rotate_key("another")
    bad = scripts.run(SCRIPT, temporary=tmp_path)

    assert (good.returncode, bad.returncode) == (0, 1)
    assert set(verdicts(good.stdout).values()) == {"as assumed", "not seen"}
    assert "differs" not in verdicts(bad.stdout).values()


def test_the_page_lists_the_assumptions_and_where_they_are_relied_on() -> None:
    text = (ROOT / "docs" / "verified.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`" in line.split("|")[2]]

    listed = sorted(assumptions.ASSUMPTIONS, key=lambda each: each.writes)
    assert rows == [f"| {each.text} | `{each.where}` | {each.asked} |" for each in listed]
    for each in assumptions.ASSUMPTIONS:
        assert (ROOT / "airflow_provider_faraday" / each.where).is_file(), each.where

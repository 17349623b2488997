"""`make live` with the sandbox, and with an API that differs: its output, exit status and leftovers."""

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
from support.ids import ORDERS, TARGET, UNKNOWN, WAREHOUSE

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


def test_the_sandbox_is_as_assumed(account: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(write=True)

    assert verdicts(capsys.readouterr().out) == dict.fromkeys(DEVIATIONS, "as assumed")
    assert [each["subpath"] for each in account.uploads()] == ["web_orders/a.csv"]
    assert account.webhooks.all() == []


def test_nothing_is_created_by_default(account: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    ask()

    found = verdicts(capsys.readouterr().out)
    written = {each.id for each in assumptions.ASSUMPTIONS if each.writes}
    assert {id_ for id_, verdict in found.items() if verdict == "not seen"} == written
    assert {each["method"] for each in account.requests()} == {"GET"}


# Faults of the API with which each assumption differs. By default, of a list without items.
DATASET = {"id": ORDERS, "resource_type": "datasets", "status": "ready", "last_updated_output_at": LONG_AGO}
BUILT_BEFORE_ITS_UPLOAD = DATASET | {
    "options": {"upload_directory": "web_orders"},
    "subpath": "web_orders/a.csv",
    "file_size": 5,
    "md5_hash": "",
    "created_at": "2020-02-02T00:00:00Z",
}
ANY_ID = "[0-9a-f-]{36}"
DEVIATIONS: dict[str, dict[str, Any]] = {
    "account": {"path": "/accounts/current$"},
    "errors": {"path": f"/datasets/{ANY_ID}$", "status": 404, "body": {"message": "not found"}},
    "lists": {"path": "/cohorts$", "status": 404},
    "whole-lists": {"path": "/datasets$", "headers": {"Link": '<http://127.0.0.1:1/>; rel="next"'}},
    "statuses": {"path": "/datasets$", "body": [DATASET | {"status": "pending"}]},
    "timestamps": {"path": "/datasets$", "body": [DATASET | {"updated_at": "2024-01-02 03:04:05"}]},
    "input-times": {"path": "/datasets$", "body": [DATASET | {"last_read_input_at": "2024-01-02T03:04:05Z"}]},
    "archived": {"path": "/datasets$"},
    "unknown-ids": {"path": "/datasets$", "body": [DATASET, DATASET | {"id": UNKNOWN}]},
    "number-of-ids": {"path": "/datasets$"},
    "graph-nodes": {"path": "/graph$"},
    "graph-states": {"path": "/datasets$", "body": [DATASET]},
    "ingress-logs": {"path": "/logs/ingress$"},
    "download": {"path": r"/download\.csv$", "status": 400},
    "credentials": {"path": "/connections$", "body": [{"id": WAREHOUSE, "options": {"password": "****"}}]},
    "upload-builds": {"path": "/(datasets|uploads)$", "body": [BUILT_BEFORE_ITS_UPLOAD]},
    "uploaded-files": {"path": "/uploads$"},
    "webhook-secrets": {"path": f"/webhook_endpoints/{ANY_ID}$", "method": "GET", "body": {}},
    "merge-patch": {"path": "/webhook_endpoints/", "method": "PATCH", "body": {}},
    "dates": {"path": "/scopes$", "headers": {"Date": ""}},
    "etags": {"path": "/scopes$", "headers": {"ETag": '"1"'}},
}


@pytest.mark.parametrize("each", assumptions.ASSUMPTIONS, ids=lambda each: each.id)
def test_what_is_not_as_assumed_differs(account: Sandbox, each: assumptions.Assumption) -> None:
    account.fail_next(times=1000, **{"body": [], **DEVIATIONS[each.id]})
    faraday = live.Faraday(FaradayHook())
    # For what looks at all responses.
    faraday.resources("scopes")

    found = assumptions.answer(lambda: each.ask(faraday))

    assert found.as_assumed is False, found
    assert faraday.remove() == []


@pytest.mark.parametrize(
    ("fault", "account_verdict", "lists_verdict"),
    [
        ({"status": 500}, "not seen", "not seen"),
        ({"path": "/datasets$", "status": 500}, "as assumed", "not seen"),
        ({"status": 403, "body": {"error": SECRET, "note": SECRET}}, "differs", "differs"),
        ({"body": [{"id": SECRET, SECRET: SECRET, "options": SECRET}]}, "differs", "differs"),
    ],
)
def test_an_api_that_fails_is_described_without_what_it_returned(
    account: Sandbox,
    fault: dict[str, Any],
    account_verdict: str,
    lists_verdict: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    account.fail_next(times=1000, **fault)

    ask(write=True)

    output = capsys.readouterr().out
    assert SECRET not in output
    found = verdicts(output)
    assert found.keys() == DEVIATIONS.keys()
    assert (found["account"], found["lists"]) == (account_verdict, lists_verdict)
    # A list that fails is not taken for an empty one.
    assert lists_verdict == "differs" or "differs" not in found.values()


def test_nothing_of_the_account_is_shown_or_recorded(
    account: Sandbox, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(live, "SAMPLES", tmp_path)
    secrets = {"name": SECRET, "sample": [{SECRET: SECRET}], "status": "error", "status_error": SECRET}
    account.set_resource("datasets", ORDERS, **secrets, row_count=73917391)
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


def test_what_cannot_be_removed_is_named(account: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    account.fail_next(times=1000, method="DELETE", status=503)

    assert not ask(write=True)

    (left,) = (each["subpath"] for each in account.uploads() if "check" in each["subpath"])
    assert f"Could not remove the upload {left}" in capsys.readouterr().out


def test_the_page_lists_the_assumptions_and_where_they_are_relied_on() -> None:
    text = (ROOT / "docs" / "verified.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and "`" in line.split("|")[2]]

    listed = sorted(assumptions.ASSUMPTIONS, key=lambda each: each.writes)
    assert rows == [f"| {each.text} | `{each.where}` | {each.asked} |" for each in listed]
    for each in assumptions.ASSUMPTIONS:
        assert (ROOT / "airflow_provider_faraday" / each.where).is_file(), each.where

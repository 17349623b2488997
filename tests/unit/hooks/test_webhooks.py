"""``ensure_webhook``: registers or enables a webhook endpoint, and keeps its secret to itself."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_provider_faraday.api.webhooks import find_endpoint
from airflow_provider_faraday.exceptions import FaradayApiError, FaradayInputError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.sandbox import Sandbox
from airflow_provider_faraday.sandbox.webhooks import EndpointChange, EndpointSpec

pytestmark = pytest.mark.usefixtures("faraday_default")

URL = "https://airflow.example.com/faraday/webhooks/faraday_default"
EVENTS = ["resource.ready_with_update", "resource.errored"]


def endpoints(sandbox: Sandbox) -> list[dict[str, Any]]:
    return sandbox.webhooks.all()


def test_a_new_url_is_registered_and_its_secret_is_neither_returned_nor_logged(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)

    ensured = FaradayHook().ensure_webhook(URL)

    # Airflow 3 logs with structlog.
    logged = caplog.text + capfd.readouterr().out

    [endpoint] = endpoints(sandbox)
    assert ensured == {"id": endpoint["id"], "url": URL, "enabled_events": EVENTS, "status": "enabled"}
    assert endpoint["secret"] not in logged
    for hint in (endpoint["id"], "webhook_secret", "'faraday_default'"):
        assert hint in logged


def test_an_endpoint_that_is_there_stays_as_it_is(sandbox: Sandbox) -> None:
    FaradayHook().ensure_webhook("https://other.example.com/hooks")
    first = FaradayHook().ensure_webhook(URL)
    sandbox.clear_requests()

    assert FaradayHook().ensure_webhook(URL) == first
    assert [request["method"] for request in sandbox.requests()] == ["GET"]
    assert len(endpoints(sandbox)) == 2


def test_a_disabled_endpoint_is_enabled_with_both_events(sandbox: Sandbox) -> None:
    created = sandbox.webhooks.create(EndpointSpec(url=URL, enabled_events=[EVENTS[1]]))
    sandbox.webhooks.change(created["id"], EndpointChange(status="disabled"))

    ensured = FaradayHook().ensure_webhook(URL)

    [endpoint] = endpoints(sandbox)
    assert (endpoint["status"], sorted(endpoint["enabled_events"])) == ("enabled", sorted(EVENTS))
    assert (ensured["id"], endpoint["secret"]) == (created["id"], created["secret"])


@pytest.mark.parametrize(
    ("registered", "is_same"),
    [
        ("https://Airflow.Example.com:443/faraday/webhooks/faraday_default", True),
        (f"HTTPS://{URL[8:]}", True),
        (f"{URL}?2", False),
        (URL.replace("/faraday/", "/Faraday/"), False),
        (URL.replace(".com/", ".com:8443/"), False),
        (f"http{URL[5:]}", False),
    ],
)
def test_a_url_that_is_only_written_differently_is_the_same_endpoint(registered: str, is_same: bool) -> None:
    odd = [{"id": "1", "url": "https://a:port/x"}, {"id": "2", "url": None}]
    found = find_endpoint(URL, [*odd, {"id": "3", "url": registered}])
    assert (found is not None and found["id"] == "3") is is_same


@pytest.mark.parametrize(
    "url",
    [None, "airflow.example.com/x", "ftp://a/b", "https://u:p@a/b", "http://a", "https://münchen.example/x"],
)
def test_what_is_no_url_is_rejected_before_anything_is_sent(sandbox: Sandbox, url: Any) -> None:
    with pytest.raises(FaradayInputError, match="url must be an absolute ASCII URL") as caught:
        FaradayHook().ensure_webhook(url)
    assert "u:p" not in str(caught.value)
    assert sandbox.requests() == []


def test_an_error_does_not_quote_a_secret(sandbox: Sandbox) -> None:
    body = '{"secret": "whsec_c2VjcmV0", '
    sandbox.fail_next(times=10, body=body, status=200, path="/webhook_endpoints", method="POST")

    with pytest.raises(FaradayApiError) as raised:
        FaradayHook().ensure_webhook(URL)
    assert "whsec_" not in str(raised.value)

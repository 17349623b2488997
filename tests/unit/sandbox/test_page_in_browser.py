"""The page at ``/`` in headless Chromium, where it is installed: the graph and the buttons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support import browser as browsers
from support.ids import CUSTOMER_COHORT, ORDERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_faraday.sandbox import Sandbox
    from support.browser import Browser

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(200),
    pytest.mark.skipif(browsers.PATH is None, reason="Chromium is not installed"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsers.headless(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, sandbox: Sandbox) -> Iterator[Browser]:
    sandbox.advance(600)
    browser.open(f"{sandbox.origin}/")
    browser.until("nodes.size > 0")
    yield browser
    browser.open("about:blank#")


def click(page: Browser, button: str) -> None:
    """Click the button with this text and wait until its effect is on the page."""
    page.evaluate("document.getElementById('outcome').textContent = ''")
    buttons = "[...document.querySelectorAll('#panels button')]"
    page.evaluate(f"{buttons}.find(each => each.textContent === {button!r}).click()")
    page.until("document.getElementById('outcome').textContent")


def until_node_has(page: Browser, resource_id: str, text: str) -> None:
    page.until(f"nodes.get({resource_id!r}).innerText.includes({text!r})")


def test_draws_each_resource_to_the_right_of_what_it_is_built_from(page: Browser, sandbox: Sandbox) -> None:
    boxes: Any = page.evaluate(
        "[...nodes].map(([id, node]) => [id, node.getBoundingClientRect().toJSON(), node.innerText])"
    )

    found = {id_: (box, text) for id_, box, text in boxes}
    assert {id_ for id_, (_, text) in found.items() if text} == {each["id"] for each in sandbox.summaries()}
    for edge in sandbox.graph():
        assert found[edge["upstream_id"]][0]["right"] < found[edge["downstream_id"]][0]["left"]
    assert page.evaluate("document.querySelectorAll('#graph path').length") == len(sandbox.graph())
    assert page.problems == []
    assert sandbox.requests() == [], "the page has requested something from the API"


def test_buttons_change_the_selected_resource_the_api_and_the_clock(page: Browser, sandbox: Sandbox) -> None:
    page.evaluate(f"nodes.get({CUSTOMER_COHORT!r}).click()")
    for button, shown in {
        "Fail": "✕ error",
        "Make ready": "✓ ready",
        "Change configuration": "rebuild due",
        "Keep running": "running",
        "Archive": "archived",
        "Restore": "running",
    }.items():
        click(page, button)
        until_node_has(page, CUSTOMER_COHORT, shown)

    click(page, "Rebuild")
    click(page, "Advance clock by 1 min")
    until_node_has(page, CUSTOMER_COHORT, "✓ ready")
    click(page, "API down (503)")
    page.until("document.getElementById('api-state').innerText.includes('down')")
    assert sandbox.pending_faults()
    click(page, "API up")
    click(page, "Next 3 requests: 429")
    assert [each["status"] for each in sandbox.pending_faults()] == [429]
    before = sandbox.rebuilds(ORDERS)
    click(page, "Rebuild all datasets")
    sandbox.advance(60)
    assert sandbox.rebuilds(ORDERS) == before + 1
    click(page, "Reset")
    until_node_has(page, CUSTOMER_COHORT, "new")

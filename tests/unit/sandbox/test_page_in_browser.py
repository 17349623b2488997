"""The page at ``/`` in headless Chromium, where it is installed: what people see and can do."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_faraday.sandbox import Sandbox
from support import browser as browsers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.browser import Browser
    from tests.unit.sandbox.conftest import Client

ORDERS = "d0000000-0000-4000-8000-000000000002"
RETURNS = "d0000000-0000-4000-8000-000000000006"
COHORT = "b0000000-0000-4000-8000-000000000001"

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(200),
    pytest.mark.skipif(browsers.PATH is None, reason="Chromium is not installed"),
]


class Page:
    """The sandbox's page in a browser."""

    def __init__(self, browser: Browser, sandbox: Sandbox) -> None:
        self.browser = browser
        browser.open(f"{sandbox.origin}/")
        self.until("nodes.size > 0")

    def evaluate(self, script: str) -> Any:
        return self.browser.evaluate(script)

    def until(self, condition: str) -> None:
        self.browser.until(condition)

    def click(self, button: str) -> None:
        """Click the button with this text and wait until its effect is on the page."""
        self.evaluate("document.getElementById('outcome').textContent = ''")
        buttons = "[...document.querySelectorAll('#panels button')]"
        self.evaluate(f"{buttons}.find(each => each.textContent === {button!r}).click()")
        self.until("document.getElementById('outcome').textContent")

    def select(self, resource_id: str) -> None:
        self.evaluate(f"nodes.get({resource_id!r}).click()")

    def text(self, element_id: str) -> str:
        return self.evaluate(f"document.getElementById({element_id!r}).innerText")

    def until_node_has(self, resource_id: str, text: str) -> None:
        self.until(f"nodes.get({resource_id!r}).innerText.includes({text!r})")

    def hide(self, hidden: bool) -> None:
        """Do what a browser does when people switch to another tab, or back."""
        value = str(hidden).lower()
        self.evaluate(
            f"Object.defineProperty(document, 'hidden', {{value: {value}, configurable: true}});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsers.headless(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, sandbox: Sandbox) -> Iterator[Page]:
    sandbox.advance(600)
    yield Page(browser, sandbox)
    browser.open("about:blank#")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_draws_each_resource_to_the_right_of_what_it_is_built_from(
    page: Page, sandbox: Sandbox, scheme: str
) -> None:
    page.browser.send(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    boxes = page.evaluate(
        "[...nodes].map(([id, node]) => [id, node.getBoundingClientRect().toJSON(), node.innerText])"
    )

    found = {id_: (box, text) for id_, box, text in boxes}
    assert found.keys() == {each["id"] for each in sandbox.summaries()}
    for edge in sandbox.graph():
        assert found[edge["upstream_id"]][0]["right"] < found[edge["downstream_id"]][0]["left"]
    assert page.evaluate("document.querySelectorAll('#graph path').length") == len(sandbox.graph())
    for resource in sandbox.summaries():
        assert resource["name"] in found[resource["id"]][1]
    ordered = sorted((box for box, _ in found.values()), key=lambda box: (box["left"], box["top"]))
    for above, below in pairwise(ordered):
        assert above["left"] < below["left"] or above["bottom"] < below["top"], "two resources overlap"
    assert page.browser.problems == []
    assert sandbox.requests() == [], "the page has requested something from the API"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_text_has_enough_contrast(page: Page, sandbox: Sandbox, scheme: str) -> None:
    page.browser.send(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
    )
    sandbox.set_resource("cohorts", COHORT, status="running")
    page.until_node_has(COHORT, "running")

    ratios = page.evaluate(
        """(() => {
          const light = color => {
            const parts = color.match(/[0-9.]+/g).slice(0, 3).map(each => each / 255);
            const [r, g, b] = parts.map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
          };
          return [...document.querySelectorAll('#graph button span')].map(span => {
            const card = getComputedStyle(span.closest('button'));
            const [a, b] = [getComputedStyle(span).color, card.backgroundColor].map(light);
            return Math.max(a, b) / Math.min(a, b);
          });
        })()"""
    )

    # WCAG 2 AA.
    assert min(ratios) > 4.5


def test_statuses_move_live(page: Page, sandbox: Sandbox) -> None:
    page.until_node_has(ORDERS, "✓ ready · 5,400")

    sandbox.set_dataset(ORDERS, status="running")
    page.until_node_has(ORDERS, "running")
    sandbox.set_dataset(ORDERS, status="error", status_error="No such table")
    page.until_node_has(ORDERS, "✕ error")
    sandbox.set_dataset(ORDERS, name="all_orders")
    page.until_node_has(ORDERS, "all_orders")
    sandbox.add_dataset(name="gift_cards")
    page.until("document.getElementById('graph').innerText.includes('gift_cards')")


@pytest.mark.parametrize(
    ("button", "expected"),
    [
        ("Fail", {"status": "error", "archived": False}),
        ("Keep running", {"status": "running", "archived": False}),
        ("Archive", {"status": "ready", "archived": True}),
    ],
)
def test_buttons_change_the_selected_resource(
    page: Page, sandbox: Sandbox, button: str, expected: dict[str, Any]
) -> None:
    page.select(COHORT)
    page.click(button)

    cohort = sandbox.resource("cohorts", COHORT)
    assert {"status": cohort["status"], "archived": bool(cohort["archived_at"])} == expected
    page.until_node_has(COHORT, "archived" if expected["archived"] else expected["status"])
    if expected["archived"]:
        page.click("Restore")
        assert sandbox.resource("cohorts", COHORT)["archived_at"] is None


def test_a_rebuild_a_failed_resource_and_a_changed_one_can_be_made_ready(
    page: Page, sandbox: Sandbox
) -> None:
    page.select(RETURNS)
    assert "31/02/2026" in page.text("details")
    page.click("Make ready")
    page.until_node_has(RETURNS, "✓ ready")
    page.click("Change configuration")
    page.until_node_has(RETURNS, "rebuild due")
    sandbox.set_dataset(RETURNS, sandbox={"running": 600})
    page.click("Rebuild")
    page.until_node_has(RETURNS, "running")
    page.click("Advance clock by 1 min")
    assert sandbox.dataset(RETURNS)["status"] == "running"
    page.click("Reset")
    page.until_node_has(RETURNS, "new")


def test_takes_the_api_down_and_up(page: Page, sandbox: Sandbox, client: Client) -> None:
    page.click("API down (503)")
    assert [client.get("/datasets").status_code for _ in range(3)] == [503] * 3
    page.until("document.getElementById('api-state').innerText.includes('down')")
    page.until("document.getElementById('requests').innerText.includes('503 (fault)')")

    page.click("API up")
    assert client.get("/datasets").status_code == 200
    page.until("document.getElementById('api-state').innerText.includes('up')")
    page.click("Next 3 requests: 429")
    page.until("document.getElementById('faults').innerText.includes('next 3: status 429')")
    assert client.get("/datasets").headers["Retry-After"] == "2"
    page.click("Clear")
    assert sandbox.requests() == []


def test_rebuilds_all_datasets_but_archived_ones(page: Page, sandbox: Sandbox) -> None:
    before = {each["id"]: each["last_updated_output_at"] for each in sandbox.datasets()}
    page.click("Rebuild all datasets")
    sandbox.advance(60)

    unchanged = [each for each in sandbox.datasets() if each["last_updated_output_at"] == before[each["id"]]]
    assert [each["name"] for each in unchanged] == ["legacy_orders", "returns"]


def test_highlights_what_a_resource_is_built_from_and_what_is_built_from_it(page: Page) -> None:
    page.select(COHORT)

    names = page.evaluate(
        "[...document.querySelectorAll('#graph button.related')].map(each => each.children[1].innerText)"
    )
    assert {"Warehouse", "orders", "loyalty_tier", "Customers", "Likely buyers to Snowflake"} <= set(names)
    assert not {"returns", "Web buyers"} & set(names)


def test_works_with_the_keyboard_and_keeps_the_focus(page: Page, sandbox: Sandbox) -> None:
    # The first stop is the link to the control API; Chromium makes the graph one only if it scrolls.
    page.evaluate("document.querySelector('header a').focus()")
    for _ in range(2):
        page.browser.press("Tab", 9)
        if page.evaluate("document.activeElement.parentNode.id") == "graph":
            break
    page.browser.press("Enter", 13, "\r")
    assert page.text("resource-title") == "Warehouse (connection)"

    sandbox.add_dataset(name="gift_cards")
    page.until("document.getElementById('graph').innerText.includes('gift_cards')")
    assert "Warehouse" in page.evaluate("document.activeElement.innerText")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"


def test_shows_why_the_control_api_refuses_something(page: Page, sandbox: Sandbox) -> None:
    page.select(ORDERS)
    page.hide(True)
    sandbox.remove_dataset(ORDERS)
    page.click("Rebuild")

    assert f"404: No dataset with the id {ORDERS}" in page.text("outcome")


def test_shows_that_the_sandbox_does_not_respond_until_it_does(page: Page, sandbox: Sandbox) -> None:
    sandbox.stop()
    page.until("document.getElementById('connection').innerText.includes('does not respond')")
    sandbox.start()
    page.until("!document.getElementById('connection').innerText")
    sandbox.set_dataset(ORDERS, status="error")
    page.until_node_has(ORDERS, "error")


def test_does_not_poll_while_it_is_hidden(page: Page, sandbox: Sandbox) -> None:
    page.hide(True)
    # It is refreshed once after a click.
    page.click("API up")
    sandbox.set_dataset(ORDERS, status="error")
    waited = "new Promise(resolve => setTimeout(resolve, 3000))"
    # What was requested before it was hidden may still arrive.
    before = page.evaluate(f"{waited}.then(() => performance.getEntriesByType('resource').length)")
    after = page.evaluate(f"{waited}.then(() => performance.getEntriesByType('resource').length)")
    assert before == after

    page.hide(False)
    page.until_node_has(ORDERS, "error")


def test_names_and_errors_are_text_not_html(browser: Browser) -> None:
    evil = "<img src=x onerror=alert(1)>"
    account = {
        "datasets": [{"id": ORDERS, "name": evil, "status": "error", "status_error": f"<b>{evil}</b>"}]
    }
    with Sandbox(account=account) as sandbox:
        page = Page(browser, sandbox)
        page.select(ORDERS)

        assert evil in page.evaluate("document.getElementById('graph').innerText")
        assert f"<b>{evil}</b>" in page.text("details")
        assert page.evaluate("document.querySelectorAll('img, b').length") == 0
        assert browser.problems == []
        browser.open("about:blank#")

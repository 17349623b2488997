# /// script
# requires-python = ">=3.11"
# dependencies = ["pillow==13.0.0", "playwright==1.65.2"]
# ///
"""``make pictures``: take the screenshots for the docs, in headless Chromium.

This script runs in its own environment, with the dependencies above. Airflow runs in the project's.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from playwright.sync_api import Page

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
PLAYGROUND = [str(ROOT / ".venv" / "bin" / "python"), "-u", str(ROOT / "scripts" / "playground.py")]
WAIT_SECONDS = 120
SCENES = ("connection_form", "waiting_sensor", "graph", "asset", "sandbox")
DAG = "faraday_connection_to_warehouse"
GATE = "wait_until_ready"
CUSTOMERS = "d0000000-0000-4000-8000-000000000001"
CUSTOMERS_COHORT = "b0000000-0000-4000-8000-000000000001"
STORE_VISITS = "d0000000-0000-4000-8000-000000000004"


class Studio:
    """Takes screenshots of Airflow's UI, and uses the APIs of Airflow and Faraday to set up the scenes.

    :param page: the browser page
    :param faraday: the URL of the local Faraday API
    """

    def __init__(self, page: Page, faraday: str) -> None:
        self.page = page
        self.faraday = faraday
        self.run = ""

    def connection_form(self) -> None:
        self._open("/connections", height=900)
        self.page.get_by_role("button", name="Add Connection").first.click()
        form = self.page.get_by_role("dialog")
        form.locator("input[name=connection_id]").fill("faraday_default")
        form.get_by_role("combobox").fill("Faraday")
        self.page.get_by_role("option", name="Faraday", exact=True).click()
        form.get_by_placeholder("api.faraday.ai").wait_for()
        form.get_by_role("heading").click()
        _save("connection-form", form.screenshot(animations="disabled"))

    def waiting_sensor(self) -> None:
        # Keep the build running until the screenshot is taken.
        self._change(STORE_VISITS, rebuild=True, sandbox={"running": 3600})
        response = self.page.request.post(f"/api/v2/dags/{DAG}/dagRuns", data={"logical_date": None})
        self.run = response.json()["dag_run_id"]
        path = f"/api/v2/dags/{DAG}/dagRuns/{self.run}/taskInstances/{GATE}"
        self._until("the sensor is deferred", lambda: self._get(path)["state"] == "deferred")
        self._open(f"/dags/{DAG}/runs/{self.run}/tasks/{GATE}", height=520)
        self.page.get_by_text("trigger_started").or_(self.page.get_by_text("starting")).first.wait_for()
        self._save_beside_menu("waiting-sensor")

    def graph(self) -> None:
        self._change(STORE_VISITS, status="ready", sandbox={"running": 4})
        path = f"/api/v2/dags/{DAG}/dagRuns/{self.run}"
        self._until("the DAG run has succeeded", lambda: self._get(path)["state"] == "success")
        self._open(f"/dags/{DAG}/runs/{self.run}", height=700)
        self.page.get_by_role("button", name="Show Graph").click()
        self.page.get_by_role("button", name="Collapse Details Panel").click()
        nodes = self.page.locator(".react-flow__node")
        nodes.first.wait_for()
        self._until_still()
        self.page.locator(".react-flow__controls-fitview").click()
        self._until_still()
        boxes = [box for box in (node.bounding_box() for node in nodes.all()) if box]
        left, top = min(box["x"] for box in boxes), min(box["y"] for box in boxes)
        right = max(box["x"] + box["width"] for box in boxes)
        bottom = max(box["y"] + box["height"] for box in boxes)
        margin = 16
        clip = {
            "x": left - margin,
            "y": top - margin,
            "width": right - left + 2 * margin,
            "height": bottom - top + 2 * margin,
        }
        _save("main-example", self.page.screenshot(clip=clip, animations="disabled"))

    def asset(self) -> None:
        self._change(CUSTOMERS, rebuild=True)
        events = "/api/v2/assets/events"
        self._until("the asset has an event", lambda: self._get(events)["total_entries"] > 0)
        runs = "/api/v2/dags/faraday_on_update/dagRuns?state=success"
        self._until("the event has started a DAG run", lambda: self._get(runs)["total_entries"] > 0)
        [asset] = [each for each in self._get("/api/v2/assets")["assets"] if each["scheduled_dags"]]
        self._open(f"/assets/{asset['id']}", height=640)
        self.page.get_by_text("faraday_on_update").first.wait_for()
        self.page.add_style_tag(content=".react-flow__minimap { display: none }")
        self._until_still()
        self._save_beside_menu("asset")

    def sandbox(self) -> None:
        control = f"{self.faraday}/sandbox"
        self.page.request.delete(f"{control}/faults")
        self._until(
            "nothing is building", lambda: not any(e["upcoming"] for e in self._get(f"{control}/resources"))
        )
        self.page.request.patch(f"{control}/cohorts/{CUSTOMERS_COHORT}", data={"status": "running"})
        self._open(f"{self.faraday}/", height=920)
        self.page.get_by_role("button", name=re.compile("^cohort Customers")).click()
        self.page.get_by_role("heading", name="Customers (cohort)").wait_for()
        self.page.mouse.move(0, 0)
        _save("sandbox", self.page.screenshot(full_page=True, animations="disabled"))

    def _save_beside_menu(self, name: str) -> None:
        menu, size = 64, self.page.viewport_size
        clip = {"x": menu, "y": 0, "width": size["width"] - menu, "height": size["height"]}
        _save(name, self.page.screenshot(clip=clip, animations="disabled"))

    def _open(self, path: str, height: int) -> None:
        self.page.set_viewport_size({"width": 1280, "height": height})
        self.page.goto(path)
        self.page.wait_for_load_state("networkidle")

    def _until_still(self) -> None:
        """Wait until the page stops moving. Graphs are laid out and zoomed in steps."""
        before, now = b"", self.page.screenshot()
        while now != before:
            time.sleep(0.7)
            before, now = now, self.page.screenshot()

    def _get(self, path: str) -> Any:
        return self.page.request.get(path).json()

    def _change(self, dataset_id: str, **change: Any) -> None:
        self.page.request.patch(f"{self.faraday}/sandbox/datasets/{dataset_id}", data=change)

    def _until(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Timed out after {WAIT_SECONDS} s while waiting until {what}.")
            time.sleep(1)


def main(names: Sequence[str] = ()) -> int:
    """Take screenshots.

    :param names: methods of :class:`Studio` that each take one; by default all
    :return: the exit status: 0, or 2 if Chromium is not installed
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("Chromium was not found. On Debian: apt-get install chromium", file=sys.stderr)
        return 2
    PICTURES.mkdir(parents=True, exist_ok=True)
    with _playground() as (airflow, faraday), sync_playwright() as playwright:
        # Chromium's sandbox does not work as root, which is often the only user in a container.
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        context = chromium.new_context(
            base_url=airflow, color_scheme="light", locale="en-US", device_scale_factor=1.5
        )
        # Wrap long log lines.
        context.add_init_script("localStorage.setItem('log_wrap', 'true')")
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto("/auth/token/login")
        studio = Studio(page, faraday)
        for name in names or SCENES:
            getattr(studio, name)()
        chromium.close()
    return 0


@contextmanager
def _playground() -> Iterator[tuple[str, str]]:
    """Run the playground, and return the URLs of Airflow and of the local Faraday API."""
    process = subprocess.Popen(PLAYGROUND, stdout=subprocess.PIPE, text=True)
    try:
        urls = []
        for line in iter(process.stdout.readline, ""):
            urls += re.findall(r"is running at (\S+?)\.? ?(?:\(|$)", line)
            if len(urls) == 2:
                break
        faraday, airflow = urls
        yield airflow, faraday
    finally:
        process.terminate()
        process.communicate()


def _save(name: str, png: bytes) -> None:
    path = PICTURES / f"{name}.png"
    Image.open(BytesIO(png)).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(
        path, optimize=True
    )
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KB", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

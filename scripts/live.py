"""Check each assumption in scripts/assumptions.py against the live service: ``make live``.

By default, it only reads. The output has no key, secret, name, id or row of the account.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4, uuid5

import requests

from airflow_provider_faraday.api.inputs import is_resource_id
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.api.retries import TRANSIENT_STATUSES
from airflow_provider_faraday.api.webhooks import EVENTS
from airflow_provider_faraday.exceptions import FaradayConfigurationError, FaradayNotFoundError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from assumptions import ASSUMPTIONS, RFC_3339, Answer, NotSeen, answer

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "tests" / "samples" / "live"
PUBLISHED = json.loads((ROOT / "tests" / "faraday_api.json").read_text())
FIELDS = {name.rstrip("?") for fields in PUBLISHED["schemas"].values() for name in fields}
FIELDS |= {"error", "note", "validationErrors"}
WORDS = {word for words in PUBLISHED["enums"].values() for word in words}
SALT = uuid4()
# Fields whose values are words of Faraday. In other fields, the same word may be a name.
WORD_FIELDS = re.compile(r"(.*_)?(error|status|type|events)")
# SIGHUP: a closed terminal.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATH_WORDS = {part for operation in PUBLISHED["operations"] for part in operation.split("/")}


class Faraday:
    """The live service, for the functions in scripts/assumptions.py.

    :ivar responses: all responses of Faraday so far.
    """

    def __init__(self, hook: FaradayHook) -> None:
        self.hook = hook
        self.responses: list[requests.Response] = []
        hook.get_conn().hooks["response"].append(self._observe)
        self._base_url = hook.client.session.config.base_url
        self._lists: dict[str, list[dict[str, Any]] | Exception] = {}
        self._created: dict[str, Callable[[], object]] = {}
        name = f"airflow-provider-check-{token_hex(6)}"
        self.upload_path = f"{name}/check.csv"
        # A host that does not exist, so that no server receives messages about the account.
        self._webhook_host = f"{name}.invalid"
        self._webhook_ids: set[str] = set()

    def _observe(self, response: requests.Response, **_: object) -> None:
        if response.url.startswith(self._base_url):
            self.responses.append(response)

    def resources(self, name: str) -> list[dict[str, Any]]:
        """Return the list of a type, which is requested once."""
        if name not in self._lists:
            try:
                self._lists[name] = self.hook.list_resources(name)
            except Exception as error:
                self._lists[name] = error
        found = self._lists[name]
        if isinstance(found, Exception):
            raise found
        return found

    def all_resources(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the resources of all lists that can be requested, each with its type."""
        found = []
        for name in RESOURCE_TYPES:
            with suppress(Exception):
                found += [(name, each) for each in self.resources(name)]
        return found

    def ready(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the ready ones of all resources, without archived ones."""
        found = self.all_resources()
        return [each for each in found if each[1].get("status") == "ready" and not each[1].get("archived_at")]

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Request the graph, and return the fields of its nodes by id."""
        return {
            edge[f"{side}_id"]: {
                name.removeprefix(f"{side}_"): value
                for name, value in edge.items()
                if name.startswith(f"{side}_")
            }
            for edge in self.hook.get_graph()
            for side in ("upstream", "downstream")
        }

    def send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """Send a request once, and return the response.

        :raises NotSeen: if it is rejected for its key, or fails transiently.
        """
        url = f"{self._base_url}{path}"
        response = self.hook.get_conn().request(method, url, allow_redirects=False, **arguments)
        is_rejected = response.status_code == 401 and "auth" not in arguments
        if is_rejected or response.status_code in TRANSIENT_STATUSES:
            raise NotSeen(f"status {response.status_code}")
        return response

    def upload(self, content: bytes) -> None:
        """Upload the file ``upload_path``."""
        path = f"/uploads/{self.upload_path}"
        self._created[f"the upload {self.upload_path}"] = partial(self.hook.request, "DELETE", path)
        self.hook.request("POST", path, data=content, headers={"Content-Type": "application/octet-stream"})

    @cached_property
    def webhook(self) -> dict[str, Any]:
        """A webhook endpoint, which is registered once."""
        self._created[f"the webhook endpoint for {self._webhook_host}"] = self._remove_webhooks
        json = {"url": f"https://{self._webhook_host}/", "enabled_events": list(EVENTS)}
        created: dict[str, Any] = self.hook.request("POST", "/webhook_endpoints", json=json).json()
        self._webhook_ids.add(created["id"])
        return created

    def _remove_webhooks(self) -> None:
        # Also those whose response was lost.
        listed = self.hook.request_list("/webhook_endpoints")
        found = {each["id"] for each in listed if self._webhook_host in str(each.get("url"))}
        for id_ in found | self._webhook_ids:
            with suppress(FaradayNotFoundError):
                self.hook.request("DELETE", f"/webhook_endpoints/{id_}")

    def remove(self) -> list[str]:
        """Remove all created data. Return descriptions of the data that could not be removed."""
        return [what for what, remove in self._created.items() if not any(map(_succeeds, [remove] * 3))]


def _succeeds(remove: Callable[[], object]) -> bool:
    try:
        with suppress(FaradayNotFoundError):
            remove()
    except Exception:
        return False
    return True


def redacted(value: Any, field: str = "") -> Any:
    """Return a JSON value with its structure, the names of published fields, and words of Faraday only."""
    match value:
        case dict():
            names = [name if name in FIELDS else f"field_{n}" for n, name in enumerate(value)]
            return {name: redacted(value[key], key) for name, key in zip(names, value, strict=True)}
        case list():
            return [redacted(each, field) for each in value[:3]]
        case bool() | None:
            return value
        case str() if is_resource_id(value):
            return str(uuid5(SALT, value.lower()))
        case str() if RFC_3339.fullmatch(value):
            return "2026-01-01T00:00:00" + re.sub(r"\d", "0", value[19:])
        case str():
            return value if WORD_FIELDS.fullmatch(field) and value in WORDS else "redacted"
    return type(value)(1)


def record(responses: list[requests.Response]) -> None:
    """Write a redacted sample of the first response to each kind of request."""
    SAMPLES.mkdir(parents=True, exist_ok=True)
    for response in reversed(responses):
        parts = urlsplit(response.url).path.removeprefix("/v1/").split("/")
        path = "_".join(part if part in PATH_WORDS else "id" for part in parts)
        file = SAMPLES / f"{response.request.method}_{path}_{response.status_code}.json"
        with suppress(requests.RequestException):
            file.write_text(json.dumps(redacted(response.json()), indent=2) + "\n", encoding="utf-8")


def run(faraday: Faraday, *, write: bool) -> bool:
    """Print a line about each assumption.

    :return: whether the key works, no assumption differs, and all created data was removed.
    """
    verdicts = []
    try:
        for each in ASSUMPTIONS:
            asks = write or not each.writes
            found = answer(partial(each.ask, faraday)) if asks else Answer(None, "only with --write")
            verdicts.append(found.as_assumed)
            verdict = {True: "as assumed", False: "differs", None: "not seen"}[found.as_assumed]
            print(f"{verdict:<10}  {each.id}: {each.text} ({each.where}) Seen: {found.seen}.", flush=True)
    finally:
        # A second Ctrl-C must not interrupt this.
        for stop in STOPS:
            signal.signal(stop, signal.SIG_IGN)
        left = faraday.remove()
        print("".join(f"Could not remove {what}. Please remove it.\n" for what in left), end="", flush=True)
    return bool(verdicts[0]) and False not in verdicts and not left


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--write",
        action="store_true",
        help="also upload a file and register a webhook endpoint, and remove both at the end",
    )
    parser.add_argument(
        "--record", action="store_true", help="write redacted responses to tests/samples/live/"
    )
    options = parser.parse_args()
    # Logs and warnings may contain names of the account.
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for stop in STOPS:
        signal.signal(stop, signal.default_int_handler)
    try:
        live = Faraday(FaradayHook())
    except FaradayConfigurationError as error:
        sys.exit(str(error))
    except Exception as error:
        sys.exit(f"The Airflow connection 'faraday_default' cannot be used: {type(error).__name__}.")
    try:
        status = not run(live, write=options.write)
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
    if options.record:
        record(live.responses)
    sys.exit(status)

"""This package's assumptions about Faraday's API, each with the check that scripts/live.py runs.

The results are printed, and can be pasted into public issues. They contain only words of this file, counts,
HTTP statuses, and names of types and fields that Faraday publishes.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import msgspec
import requests

from airflow_provider_faraday.api import endpoints, responses, retries, states, uploads
from airflow_provider_faraday.api.errors import FaradayApiError, FaradayResponseError
from airflow_provider_faraday.api.resources import RESOURCE_TYPES, ResourceType
from airflow_provider_faraday.api.times import http_date, timestamp

if TYPE_CHECKING:
    from live import Faraday

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_CREDENTIAL = re.compile(r"(?i).*(password|token|secret|api_key|credentials_json)")
_MASK = re.compile(r"(?i)[*•.x]*|\W*(masked|redacted|hidden)\W*")
_TIMES = [name for name in states.ResourceState.__struct_fields__ if name.endswith("_at")]
_MERGE_PATCHES = ("application/merge-patch+json", "application/json+merge-patch")
# If no build has ended this long after an upload, the upload has not started one.
_BUILD_HOURS = timedelta(hours=6)


class NotSeen(Exception):
    """The API did not respond, or the account has no data for the check. The message is printed."""


class Answer(NamedTuple):
    """Whether it is as assumed, or None if that is unknown, and the observation."""

    as_assumed: bool | None
    seen: str


Ask = Callable[["Faraday"], Answer]


class Assumption(NamedTuple):
    """An assumption about the API.

    :param where: the module that relies on it, below ``airflow_provider_faraday/``.
    :param asked: the requests that ``ask`` sends.
    :param writes: whether they create something.
    """

    id: str
    text: str
    where: str
    asked: str
    ask: Ask
    writes: bool


ASSUMPTIONS: list[Assumption] = []


def assumption(where: str, asked: str, *, writes: bool = False) -> Callable[[Ask], Ask]:
    """Register a function that asks about the assumption in its docstring."""

    def register(ask: Ask) -> Ask:
        id_, text = ask.__name__.replace("_", "-"), str(ask.__doc__)
        ASSUMPTIONS.append(Assumption(id_, text, where, asked, ask, writes))
        return ask

    return register


def answer(ask: Callable[[], Answer]) -> Answer:
    """Return an answer, also if the API fails. Error messages are not shown, because they quote responses."""
    try:
        return ask()
    except NotSeen as reason:
        return Answer(None, str(reason))
    except FaradayResponseError as error:
        return Answer(False, "invalid JSON" if error.broken else "an unexpected format")
    except FaradayApiError as error:
        unclear = retries.is_transient(error) or error.status_code == 401
        seen = f"status {error.status_code}" if error.status_code else "no complete response"
        return Answer(None if unclear else False, seen)
    except (requests.ConnectionError, requests.Timeout):
        return Answer(None, "no complete response")
    except Exception as error:
        return Answer(False, f"an unexpected format ({type(error).__name__})")


def _unless(problem: object, description: str, good: str) -> Answer:
    return Answer(not problem, description if problem else good)


def _only_if(found: object, otherwise: str) -> None:
    if not found:
        raise NotSeen(otherwise)


def _types(resources: list[tuple[str, dict[str, Any]]]) -> str:
    return ", ".join(sorted({resource_type for resource_type, _ in resources}))


# The account and its lists


@assumption("api/responses.py", "`GET /accounts/current`")
def account(faraday: Faraday) -> Answer:
    """The account of a key can be requested, and has an `id`."""
    faraday.hook.client.fetch(endpoints.current_account(), responses.decode_resource)
    return Answer(True, "an id")


@assumption("api/errors.py", "`GET` of a random id, and of the account without a key")
def errors(faraday: Faraday) -> Answer:
    """Without a key, the status is 401; for an unknown id, it is 404. Both have an `error` and an `id`."""
    no_key = faraday.send("GET", "/accounts/current", auth=lambda request: request)
    unknown = faraday.send("GET", f"/datasets/{uuid4()}")
    seen = f"status {no_key.status_code} and {unknown.status_code}"
    if (no_key.status_code, unknown.status_code) != (401, 404):
        return Answer(False, seen)
    bodies = (no_key.json(), unknown.json())
    return _unless(not all(body["error"] and body["id"] for body in bodies), "no error or id", seen)


@assumption("api/states.py", "the lists of all types")
def lists(faraday: Faraday) -> Answer:
    """Every type has a list, whose items have an `id`, `resource_type` and fields of the published types."""
    answers = {name: answer(partial(_list, faraday, kind)) for name, kind in RESOURCE_TYPES.items()}
    for verdict in (False, None):
        seen = [f"{name}: {each.seen}" for name, each in answers.items() if each.as_assumed is verdict]
        if seen:
            return Answer(verdict, "; ".join(seen))
    return Answer(True, f"{len(faraday.all_resources()):,} resources")


def _list(faraday: Faraday, kind: ResourceType) -> Answer:
    found = faraday.resources(kind.name)
    counts = [state.count for state in states.states_of(kind, found)]
    if not all(isinstance(count, (int, float, type(None))) for count in counts):
        return Answer(False, "a count that is not a number")
    return _unless(any(each.get("resource_type") != kind.name for each in found), "another resource_type", "")


@assumption("client/requests_client.py", "the lists of all types")
def whole_lists(faraday: Faraday) -> Answer:
    """Lists of resources have no further pages."""
    faraday.all_resources()
    found = [each for each in faraday.responses if each.request.path_url.endswith(tuple(RESOURCE_TYPES))]
    _only_if([each for each in found if each.ok], "no lists")
    return _unless(any("next" in each.links for each in found), "further pages", f"{len(found)} lists")


@assumption("api/states.py", "the lists of all types")
def statuses(faraday: Faraday) -> Answer:
    """The status is new, starting, running, ready or error."""
    found = faraday.all_resources()
    _only_if(found, "no resources")
    other = [each for each in found if each[1].get("status") not in states.KNOWN_STATUSES]
    return _unless(other, f"another status in {_types(other)}", "no other status")


@assumption("api/times.py", "the lists of all types")
def timestamps(faraday: Faraday) -> Answer:
    """Timestamps are RFC 3339 strings with an offset."""
    given = [(name, each[name]) for _, each in faraday.all_resources() for name in _TIMES if each.get(name)]
    _only_if(given, "no timestamps")
    other = {name for name, value in given if not RFC_3339.fullmatch(str(value))}
    return _unless(other, f"another format of {', '.join(sorted(other))}", f"{len(given):,} timestamps")


@assumption("api/readiness.py", "the lists of all types")
def input_times(faraday: Faraday) -> Answer:
    """The `last_read_input_at` of a ready resource is not later than its `last_updated_output_at`."""
    built = [(name, each) for name, each in faraday.ready() if each.get("last_updated_output_at")]
    read = [(name, each) for name, each in built if each.get("last_read_input_at")]
    _only_if(read, "no ready resource with both times")
    times = [(each["last_read_input_at"], each["last_updated_output_at"]) for _, each in read]
    late = [each for each, (start, end) in zip(read, times, strict=True) if timestamp(start) > timestamp(end)]
    missing = [(name, each) for name, each in built if not each.get("last_read_input_at")]
    return _unless(
        late, f"later in {_types(late)}", f"in {_types(read)}; missing in {_types(missing) or 'none'}"
    )


@assumption("api/states.py", "the lists of all types, and `GET /graph`")
def archived(faraday: Faraday) -> Answer:
    """Lists have archived resources, with `archived_at`."""
    listed = [each for name in RESOURCE_TYPES for each in faraday.resources(name)]
    count = sum(bool(each.get("archived_at")) for each in listed)
    hidden = {id_ for id_, node in faraday.nodes().items() if node["archived_at"]} - {
        each["id"] for each in listed
    }
    _only_if(count or hidden, "no archived resources")
    return _unless(hidden, f"{len(hidden)} are only in the graph", f"{count} of {len(listed):,}")


@assumption("api/endpoints.py", "`GET /datasets?ids=` with a known and a random id")
def unknown_ids(faraday: Faraday) -> Answer:
    """Unknown ids among `ids` are skipped."""
    known = [each["id"] for each in faraday.resources("datasets")[:1]]
    found = [each["id"] for each in faraday.hook.list_resources("datasets", [*known, str(uuid4())])]
    return Answer(found == known, f"{len(found)} of {len(known) + 1} ids")


@assumption("api/endpoints.py", "`GET /datasets?ids=` with 100 and 101 random ids")
def number_of_ids(faraday: Faraday) -> Answer:
    """A request can have 100 `ids`. With more, the status is 400."""
    ids = [str(uuid4()) for _ in range(101)]
    found = [faraday.send("GET", "/datasets", params={"ids": ids[:n]}).status_code for n in (100, 101)]
    return Answer(found == [200, 400], "status {} and {}".format(*found))


# The graph


@assumption("api/graph.py", "`GET /graph`, and the lists of outcomes, scopes and targets")
def graph_nodes(faraday: Faraday) -> Answer:
    """Every outcome, scope and target is in the graph."""
    nodes = faraday.nodes()
    types = [name for name, kind in RESOURCE_TYPES.items() if kind.always_in_graph]
    listed = [(name, each) for name in types for each in faraday.resources(name)]
    _only_if(listed, "no outcomes, scopes or targets")
    missing = [each for each in listed if each[1]["id"] not in nodes]
    known = [(node["type"], node) for node in nodes.values() if node["type"] in RESOURCE_TYPES]
    return _unless(missing, f"missing {_types(missing)}", f"nodes are {_types(known)}")


@assumption("api/graph.py", "`GET /graph` between two lists of datasets")
def graph_states(faraday: Faraday) -> Answer:
    """The graph and the lists have the same statuses and times of builds."""
    before = {each["id"]: each for each in faraday.hook.list_datasets()}
    nodes = faraday.nodes()
    after = faraday.hook.list_datasets()
    unchanged = [each for each in after if each == before.get(each["id"]) and each["id"] in nodes]
    _only_if(unchanged, "no datasets in the graph")
    fields = ("status", "last_updated_config_at", "last_updated_output_at")
    differ = {name for each in unchanged for name in fields if each.get(name) != nodes[each["id"]].get(name)}
    return _unless(differ, f"another {', '.join(sorted(differ))}", f"{len(unchanged):,} datasets")


# Files, logs and options


@assumption("api/ingress.py", "`GET /datasets/{id}/logs/ingress?limit=1`, then all pages")
def ingress_logs(faraday: Faraday) -> Answer:
    """Ingress logs are listed newest first, and have `X-Total-Count`, and links to further pages."""
    for dataset in faraday.resources("datasets")[:20]:
        path = f"/datasets/{dataset['id']}/logs/ingress"
        page = faraday.send("GET", path, params={"limit": 1})
        found = faraday.hook.list_ingress_logs(dataset["id"])
        if page.headers.get("X-Total-Count") != str(len(found)):
            return Answer(False, f"{len(found)} logs, and another X-Total-Count")
        if page.json()[:1] != found[:1]:
            return Answer(False, "not newest first")
        if len(found) > 1:
            is_page = len(page.json()) == 1 and "next" in page.links
            return _unless(not is_page, "another page with limit=1", f"{len(found)} logs")
    raise NotSeen("no dataset with two logs")


@assumption("client/requests_client.py", "the beginning of `GET /targets/{id}/download.csv`")
def download(faraday: Faraday) -> Answer:
    """The file of a target is sent directly, or by a redirect to a server that needs no key."""
    ready = [each for name, each in faraday.ready() if name == "targets" and each.get("count")]
    _only_if(ready, "no ready target with rows")
    hosted = [each for each in ready if (each.get("options") or {}).get("type") == "hosted_csv"]
    before = len(faraday.responses)
    endpoint = endpoints.download_target((hosted or ready)[0]["id"])
    with faraday.hook.client.open_file(endpoint) as (chunks, _):
        size = len(next(chunks, b""))
    redirected = any(each.is_redirect for each in faraday.responses[before:])
    return _unless(not size, "an empty file", "redirected" if redirected else "sent directly")


@assumption("api/resources.py", "the list of connections")
def credentials(faraday: Faraday) -> Answer:
    """Credentials in the `options` of connections may be readable."""
    options = [each.get("options") or {} for each in faraday.resources("connections")]
    values = [value for each in options for name, value in each.items() if _CREDENTIAL.fullmatch(name)]
    _only_if(values, "no credentials")
    readable = [value for value in values if value and not _MASK.fullmatch(str(value))]
    return _unless(not readable, "all are masked", f"{len(readable)} of {len(values)} are readable")


@assumption("transfers/uploads.py", "the lists of datasets and uploads")
def upload_builds(faraday: Faraday) -> Answer:
    """An upload starts builds of the datasets that read it: they were built after their last upload."""
    listed = msgspec.convert(faraday.hook.list_uploads(), list[uploads.Upload])
    latest = {each.path.split("/")[0]: each.uploaded_at for each in sorted(listed, key=_uploaded_at)}
    built = []
    for dataset in faraday.resources("datasets"):
        uploaded_at = latest.get((dataset.get("options") or {}).get("upload_directory"))
        built_at = timestamp(dataset.get("last_updated_output_at") or "")
        if uploaded_at and built_at and not dataset.get("archived_at") and not dataset.get("preview"):
            in_time = uploaded_at + _BUILD_HOURS > datetime.now(UTC)
            built += [True] if built_at > uploaded_at else [] if in_time else [False]
    _only_if(built, "no dataset that reads uploads")
    return Answer(all(built), f"{sum(built)} of {len(built)} datasets")


def _uploaded_at(upload: uploads.Upload) -> datetime:
    return upload.uploaded_at or datetime.min.replace(tzinfo=UTC)


# What is created, and removed again


@assumption("transfers/uploads.py", "`POST /uploads/…` and `GET /uploads`, twice", writes=True)
def uploaded_files(faraday: Faraday) -> Answer:
    """An upload is listed at once, with its size, MD5 and time. A second one replaces the first."""
    times = []
    for content in (b"id\n1\n", b"id\n1\n2\n"):
        # Times may have whole seconds.
        time.sleep(1.1)
        faraday.upload(content)
        listed = msgspec.convert(faraday.hook.list_uploads(), list[uploads.Upload])
        found = [each for each in listed if each.path == faraday.upload_path]
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if [each.is_copy_of(len(content), md5) for each in found] != [True]:
            return Answer(False, f"{len(found)} files, or another size or MD5")
        times.append(_uploaded_at(found[0]))
    return _unless(times[0] >= times[1], "created_at did not change", "size, MD5 and created_at")


@assumption("hooks/faraday.py", "`POST /webhook_endpoints`, then `GET`", writes=True)
def webhook_secrets(faraday: Faraday) -> Answer:
    """The secret of a webhook endpoint, `whsec_…`, can be read at any time."""
    created = faraday.webhook
    shown = faraday.send("GET", f"/webhook_endpoints/{created['id']}").json()
    found = [str(each.get("secret")).startswith("whsec_") for each in (created, shown)]
    return _unless(
        not all(found), "missing in the response to {}".format("GET" if found[0] else "POST"), "shown"
    )


@assumption("api/endpoints.py", "`PATCH /webhook_endpoints/{id}` with each content type", writes=True)
def merge_patch(faraday: Faraday) -> Answer:
    """A `PATCH` takes both content types of a JSON merge patch, but not `application/json`."""
    path, data = f"/webhook_endpoints/{faraday.webhook['id']}", b'{"status": "disabled"}'
    found = [
        faraday.send("PATCH", path, data=data, headers={"Content-Type": content_type}).status_code
        for content_type in (*_MERGE_PATCHES, "application/json")
    ]
    return Answer(found[:2] == [200, 200] and 400 <= found[2] < 500, "status {}, {} and {}".format(*found))


# All responses


@assumption("hooks/faraday.py", "all requests")
def dates(faraday: Faraday) -> Answer:
    """Every response has a `Date`."""
    missing = sum(not http_date(each.headers.get("Date", "")) for each in faraday.responses)
    return _unless(
        missing, f"missing in {missing} of {len(faraday.responses)}", f"{len(faraday.responses)} responses"
    )


@assumption("client/aiohttp_client.py", "all requests")
def etags(faraday: Faraday) -> Answer:
    """No response has an `ETag`."""
    count = sum("ETag" in each.headers for each in faraday.responses)
    return _unless(count, f"in {count} of {len(faraday.responses)}", "none")

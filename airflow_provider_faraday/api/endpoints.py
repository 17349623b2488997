"""The endpoints that this provider uses, each once. See https://faraday.ai/docs/reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote, urlencode, urlsplit

from airflow_provider_faraday.api.errors import FaradayInputError
from airflow_provider_faraday.api.inputs import (
    excerpt,
    resource_id,
    upload_directory,
    upload_filename,
)
from airflow_provider_faraday.api.resources import ResourceType

IDS_PER_REQUEST = 100
"""How many ``ids`` Faraday accepts in one request."""
MERGE_PATCH = "application/merge-patch+json"
"""The content type of a ``PATCH``, except of a market opportunity analysis."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint with its arguments.

    :param path: the path below the base URL.
    :param private: whether the response may hold a secret, so that errors must not quote it.
    :param content_type: the content type of the request body, if it has one.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    private: bool = False
    content_type: str | None = None

    def url(self, base_url: str) -> str:
        """Return the absolute URL."""
        return f"{base_url}{self.path}" + (f"?{urlencode(self.query)}" if self.query else "")


def list_resources(resource_type: ResourceType) -> Endpoint:
    """List all resources of a type in the account, such as ``getdatasets``."""
    return Endpoint("GET", f"/{resource_type.name}", private=_is_private(resource_type))


def resources_by_id(resource_type: ResourceType, ids: Iterable[str]) -> list[Endpoint]:
    """List resources by id, in batches of :data:`IDS_PER_REQUEST`. Faraday leaves unknown ids out."""
    wanted = list(ids)
    batches = [wanted[n : n + IDS_PER_REQUEST] for n in range(0, len(wanted), IDS_PER_REQUEST)]
    path, private = f"/{resource_type.name}", _is_private(resource_type)
    return [Endpoint("GET", path, tuple(("ids", id_) for id_ in batch), private) for batch in batches]


def resources_of(container: ResourceType, container_id: object, resource_type: ResourceType) -> Endpoint:
    """List the resources of a container, such as ``getconnectiondatasets`` or ``getscopedatasets``."""
    path = f"{_path(container, container_id)}/{resource_type.name}"
    return Endpoint("GET", path, private=_is_private(resource_type))


def get_resource(resource_type: ResourceType, id_: object) -> Endpoint:
    """Get a resource, such as ``getdataset``."""
    return Endpoint("GET", _path(resource_type, id_), private=_is_private(resource_type))


def force_update(resource_type: ResourceType, id_: object) -> Endpoint:
    """Request a rebuild of a resource, such as ``forceupdatedataset``."""
    return Endpoint("POST", f"{_path(resource_type, id_)}/force_update")


def ingress_logs(dataset_id: object, limit: int | None) -> Endpoint:
    """List the ingress logs of a dataset, ``limit`` on a page (``getdatasetingresslogs``)."""
    query = () if limit is None else (("limit", str(limit)),)
    return Endpoint("GET", f"/datasets/{resource_id(dataset_id, 'dataset_id')}/logs/ingress", query)


def graph() -> Endpoint:
    """List the edges of the account's dependency graph (``getgraph``)."""
    return Endpoint("GET", "/graph")


def current_account() -> Endpoint:
    """Get the account of the API key (``getcurrentaccount``)."""
    return Endpoint("GET", "/accounts/current", private=True)


def list_uploads() -> Endpoint:
    """List all files that were uploaded to the account (``getuploads``)."""
    return Endpoint("GET", "/uploads")


def upload(directory: object, filename: object) -> Endpoint:
    """Upload a file, and replace the one of the same name (``createupload``)."""
    return Endpoint("POST", _upload_path(directory, filename), content_type="application/octet-stream")


def delete_upload(directory: object, filename: object) -> Endpoint:
    """Delete a file that was uploaded (``deleteupload``)."""
    return Endpoint("DELETE", _upload_path(directory, filename))


def download_target(target_id: object) -> Endpoint:
    """Download the default output of a target (``downloadtarget``)."""
    return Endpoint("GET", f"/targets/{resource_id(target_id, 'target_id')}/download.csv")


def list_webhook_endpoints() -> Endpoint:
    """List the URLs that Faraday sends webhooks to, each with its secret (``getwebhookendpoints``)."""
    return Endpoint("GET", "/webhook_endpoints", private=True)


def create_webhook_endpoint() -> Endpoint:
    """Register a URL for webhooks (``createwebhookendpoint``)."""
    return Endpoint("POST", "/webhook_endpoints", private=True, content_type="application/json")


def update_webhook_endpoint(endpoint_id: object) -> Endpoint:
    """Change the events or the status of a registered URL (``updatewebhookendpoint``)."""
    path = f"/webhook_endpoints/{resource_id(endpoint_id, 'endpoint_id')}"
    return Endpoint("PATCH", path, private=True, content_type=MERGE_PATCH)


def any_endpoint(method: object, path: object) -> Endpoint:
    """Return an endpoint without a function in this module.

    :param path: below the base URL, with or without a query.
    :raises FaradayInputError: if it could be an absolute URL, or is not below the base URL.
    """
    if not (isinstance(method, str) and method.isascii() and method.isalpha()):
        raise FaradayInputError(f"method must be an HTTP method such as 'GET', but is {excerpt(method)}.")
    segments = unquote(path.partition("?")[0]).split("/") if isinstance(path, str) else []
    if (
        not isinstance(path, str)
        or not path.isprintable()
        or "#" in path
        or "" in segments[1:-1]
        or {".", ".."} & set(segments)
    ):
        raise FaradayInputError(
            f"path must be a path below the base URL, such as '/scopes', but is {excerpt(path)}.\n"
            "This hook sends the API key to Faraday only. Use another hook for other servers."
        )
    verb = method.upper()
    content_type = MERGE_PATCH if verb == "PATCH" else None
    return Endpoint(verb, f"/{path.removeprefix('/')}", content_type=content_type)


def origin(url: str) -> tuple[str, str, int | None]:
    """Return the scheme, host and port of a URL. The API key must not be sent to another origin.

    :raises ValueError: if the URL is not valid.
    """
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(scheme)


def _is_private(resource_type: ResourceType) -> bool:
    # Options may hold credentials.
    return "options" in resource_type.excluded_fields


def _upload_path(directory: object, filename: object) -> str:
    return f"/uploads/{upload_directory(directory)}/{upload_filename(filename)}"


def _path(resource_type: ResourceType, id_: object) -> str:
    return f"/{resource_type.name}/{resource_id(id_, resource_type.id_argument)}"

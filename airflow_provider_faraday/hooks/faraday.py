"""FaradayHook: Faraday's API behind an Airflow connection of type ``faraday``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_faraday.api import endpoints, names, webhooks
from airflow_provider_faraday.api.ingress import newest_first
from airflow_provider_faraday.api.inputs import (
    is_resource_id,
    resource_id_or_name,
    resource_ids_or_names,
    webhook_url,
)
from airflow_provider_faraday.api.resources import resource_type_named
from airflow_provider_faraday.api.responses import (
    decode_nothing,
    decode_objects,
    decode_resource,
    decode_resources,
)
from airflow_provider_faraday.client.config import client_config
from airflow_provider_faraday.exceptions import FaradayError, FaradayInputError
from airflow_provider_faraday.get_provider_info import get_provider_info

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import requests
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_faraday.api.endpoints import Endpoint
    from airflow_provider_faraday.api.resources import ResourceType
    from airflow_provider_faraday.client.config import ClientConfig
    from airflow_provider_faraday.client.requests_client import RequestsClient


class FaradayHook(BaseHook):
    """Send authenticated requests to Faraday.

    The hook looks up the Airflow connection at the first request, and again when Faraday returns 401, so that
    it picks up a key that was replaced.

    Every method raises :class:`~airflow_provider_faraday.exceptions.FaradayConfigurationError` if the Airflow
    connection is not valid, :class:`~airflow_provider_faraday.exceptions.FaradayInputError` if an argument is
    not (before anything is sent), and :class:`~airflow_provider_faraday.exceptions.FaradayApiError` or a
    subclass if a request fails. Transient failures are retried first.

    Wherever a method takes the UUID of a resource, its exact name works as well, and takes one more request.
    Archived resources are not found by name. If no resource has the name, or several have, the method raises
    :class:`~airflow_provider_faraday.exceptions.FaradayLookupError`.

    :param faraday_conn_id: the Airflow connection. The password is the API key; the host is the base URL, by
        default https://api.faraday.ai/v1; the extras are ``timeout`` (seconds), ``max_attempts``, ``proxy``,
        ``verify``, ``allow_http`` and ``webhook_secret``.
    """

    conn_name_attr = "faraday_conn_id"
    default_conn_name = "faraday_default"
    conn_type = "faraday"
    hook_name = "Faraday"

    def __init__(self, faraday_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.faraday_conn_id = faraday_conn_id
        self._client: RequestsClient | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of the connection form, for Airflow before 3.2."""
        from wtforms import (  # type: ignore[import-untyped,unused-ignore]
            BooleanField,
            IntegerField,
            PasswordField,
            StringField,
        )

        field_classes = {"boolean": BooleanField, "integer": IntegerField, "password": PasswordField}
        return {
            name: field_classes.get(field["schema"].get("format", field["schema"]["type"][0]), StringField)(
                field["label"], description=field["description"]
            )
            for name, field in _form()["conn-fields"].items()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the labels of the connection form, for Airflow before 3.2."""
        return {key.replace("-", "_"): value for key, value in _form()["ui-field-behaviour"].items()}

    @property
    def client(self) -> RequestsClient:
        """The client that sends the hook's requests."""
        if self._client is None:
            # Not at the top: a DAG file that imports the hook must not load an HTTP library.
            from airflow_provider_faraday.client.requests_client import RequestsClient

            self._client = RequestsClient(self._look_up)
        return self._client

    def get_conn(self) -> requests.Session:
        """Return a session that sends the API key to Faraday only.

        It requires absolute URLs, does not retry, and raises ``requests`` exceptions. For endpoints without a
        method, use :meth:`request`.
        """
        return self.client.session

    def test_connection(self) -> tuple[bool, str]:
        """Check the API key. Return whether Faraday accepts it, and a message."""
        try:
            # Not returned: it may include an API key.
            self.client.fetch(endpoints.current_account(), decode_resource)
        except (FaradayError, AirflowNotFoundException) as error:
            return False, str(error)
        return True, "Faraday accepts the API key."

    def list_connection_datasets(self, connection_id: str) -> list[dict[str, Any]]:
        """Return all datasets of a Faraday connection, with all fields that Faraday sent.

        https://faraday.ai/docs/reference/getconnectiondatasets

        :param connection_id: UUID or name of the Faraday connection.
        """
        return self.list_connection_resources("datasets", connection_id)

    def list_scope_datasets(self, scope_id: str) -> list[dict[str, Any]]:
        """Return the datasets behind the population cohorts of a scope, with all fields that Faraday sent.

        https://faraday.ai/docs/reference/getscopedatasets

        :param scope_id: UUID or name of the scope.
        """
        return self.list_scope_resources("datasets", scope_id)

    def list_connection_targets(self, connection_id: str) -> list[dict[str, Any]]:
        """Return all targets of a Faraday connection, with all fields that Faraday sent.

        https://faraday.ai/docs/reference/getconnectiontargets

        :param connection_id: UUID or name of the Faraday connection.
        """
        return self.list_connection_resources("targets", connection_id)

    def list_scope_targets(self, scope_id: str) -> list[dict[str, Any]]:
        """Return the targets that deliver a scope's predictions, with all fields that Faraday sent.

        https://faraday.ai/docs/reference/getscopetargets

        :param scope_id: UUID or name of the scope.
        """
        return self.list_scope_resources("targets", scope_id)

    def get_graph(self) -> list[dict[str, Any]]:
        """Return the dependencies between all resources of the account, as Faraday sent them.

        Each is a dict that says that one resource depends on another: ``upstream_id``, ``upstream_type``,
        ``upstream_status`` and so on, and the same for ``downstream``.

        https://faraday.ai/docs/reference/getgraph
        """
        return self.client.fetch(endpoints.graph(), decode_objects).value

    def list_datasets(self, ids: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Return the datasets of the account, with all fields that Faraday sent.

        https://faraday.ai/docs/reference/getdatasets

        :param ids: UUIDs of the datasets to return, if they exist, or names; None for all.
        """
        return self.list_resources("datasets", ids)

    def get_dataset(self, dataset_id: str) -> dict[str, Any]:
        """Return a dataset, with all fields that Faraday sent.

        https://faraday.ai/docs/reference/getdataset

        :param dataset_id: UUID or name of the dataset.
        """
        return self.get_resource("datasets", dataset_id)

    def force_update_dataset(self, dataset_id: str) -> datetime | None:
        """Request a rebuild of a dataset. Its status may remain ``ready`` until the rebuild starts.

        https://faraday.ai/docs/reference/forceupdatedataset

        :param dataset_id: UUID or name of the dataset.
        :return: see :meth:`force_update`.
        """
        return self.force_update("datasets", dataset_id)

    def list_ingress_logs(self, dataset_id: str, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the ingress logs of a dataset, newest first, with all fields that Faraday sent.

        With a limit, these are the newest ones only if Faraday lists them so, which it does not document.

        There is one for each time that Faraday has read the dataset's input: ``started_at``, ``finished_at``,
        ``status``, ``status_error``, and ``metrics`` such as ``total_row_count``. Faraday calls this endpoint
        experimental.

        https://faraday.ai/docs/reference/getdatasetingresslogs

        :param dataset_id: UUID or name of the dataset.
        :param limit: the maximum number of logs; None for all.
        """
        if limit is not None and (type(limit) is not int or limit < 1):
            raise FaradayInputError(f"limit must be a positive integer or None, but is {limit!r}.")
        endpoint = endpoints.ingress_logs(self.find_id("datasets", dataset_id), limit)
        return newest_first(self.client.fetch(endpoint, decode_objects, enough=limit).value)[:limit]

    def list_resources(self, resource_type: str, ids: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Return the resources of a type in the account, with all fields that Faraday sent.

        :param resource_type: such as ``datasets``.
        :param ids: UUIDs of the resources to return, if they exist, or names; requested 100 at a time; None
            for all.
        """
        kind = resource_type_named(resource_type)
        if ids is None:
            return self._list(endpoints.list_resources(kind))
        batches = endpoints.resources_by_id(kind, self._ids(kind, resource_ids_or_names(ids, "ids")))
        return [resource for batch in batches for resource in self._list(batch)]

    def find_id(self, resource_type: str, resource: str) -> str:
        """Return the UUID of a resource.

        :param resource_type: such as ``datasets``.
        :param resource: its UUID, which is returned without a request, or its name.
        """
        kind = resource_type_named(resource_type)
        return self._ids(kind, [resource_id_or_name(resource, kind.id_argument)])[0]

    def find_ids(self, resource_type: str, resources: Iterable[str]) -> list[str]:
        """Return the UUIDs of resources, without duplicates, with at most one request.

        :param resource_type: such as ``datasets``.
        :param resources: UUIDs and names.
        """
        return self._ids(resource_type_named(resource_type), resource_ids_or_names(resources, "resources"))

    def list_connection_resources(self, resource_type: str, connection_id: str) -> list[dict[str, Any]]:
        """Return the resources of a type that belong to a Faraday connection.

        :param resource_type: such as ``datasets``.
        :param connection_id: UUID or name of the Faraday connection.
        """
        return self._list_of("connections", connection_id, resource_type)

    def list_scope_resources(self, resource_type: str, scope_id: str) -> list[dict[str, Any]]:
        """Return the resources of a type that belong to a scope.

        :param resource_type: such as ``datasets``.
        :param scope_id: UUID or name of the scope.
        """
        return self._list_of("scopes", scope_id, resource_type)

    def get_resource(self, resource_type: str, resource_id: str) -> dict[str, Any]:
        """Return a resource, with all fields that Faraday sent.

        :param resource_type: such as ``datasets``.
        :param resource_id: UUID or name of the resource.
        """
        id_ = self.find_id(resource_type, resource_id)
        endpoint = endpoints.get_resource(resource_type_named(resource_type), id_)
        return self.client.fetch(endpoint, decode_resource).value

    def force_update(self, resource_type: str, resource_id: str) -> datetime | None:
        """Request a rebuild of a resource. Its status may remain ``ready`` until the rebuild starts.

        :param resource_type: such as ``datasets``.
        :param resource_id: UUID or name of the resource.
        :return: when Faraday accepted the request, by its own clock, in UTC and whole seconds; None if its
            response has no ``Date``.
        """
        id_ = self.find_id(resource_type, resource_id)
        endpoint = endpoints.force_update(resource_type_named(resource_type), id_)
        return self.client.fetch(endpoint, decode_nothing).sent_at

    def list_uploads(self) -> list[dict[str, Any]]:
        """Return the files that were uploaded to the account, with all fields that Faraday sent.

        https://faraday.ai/docs/reference/getuploads
        """
        return self.client.fetch(endpoints.list_uploads(), decode_objects).value

    def upload_file(
        self,
        path: str | ObjectStoragePath,
        directory: str,
        filename: str | None = None,
        *,
        require_dataset: bool = False,
        allow_empty: bool = False,
    ) -> dict[str, Any]:
        """Upload a file, unless it is already the newest one in its directory.

        See :class:`~airflow_provider_faraday.transfers.uploads.UploadFileOperator`.

        https://faraday.ai/docs/reference/createupload

        :param path: the file, in any object storage of Airflow.
        :param directory: the upload directory, which a dataset of type ``hosted_csv`` reads.
        :param filename: the name in that directory; by default that of the file.
        :param require_dataset: raise an error if no dataset reads the directory, instead of logging a
            warning.
        :param allow_empty: upload a file of 0 bytes, instead of raising an error.
        :return: ``{"path": …, "bytes": …, "md5": …, "skipped": …, "uploaded_at": …, "updated_after": …}``.
        """
        from airflow_provider_faraday.hooks.files import upload_file

        return upload_file(
            self.client,
            self.log,
            path,
            directory,
            filename,
            require_dataset=require_dataset,
            allow_empty=allow_empty,
        )

    def delete_upload(self, directory: str, filename: str) -> None:
        """Delete a file that was uploaded.

        https://faraday.ai/docs/reference/deleteupload

        :param directory: the upload directory.
        :param filename: the name in that directory.
        :raises FaradayNotFoundError: if there is no such file.
        """
        self.client.fetch(endpoints.delete_upload(directory, filename), decode_nothing)

    def download_target(self, target_id: str, path: str | ObjectStoragePath) -> dict[str, Any]:
        """Download the output of a target.

        See :class:`~airflow_provider_faraday.transfers.targets.DownloadTargetOperator`.

        https://faraday.ai/docs/reference/downloadtarget

        :param target_id: UUID or name of the target.
        :param path: the file to write, in any object storage of Airflow. An existing one is replaced.
        :return: ``{"path": …, "bytes": …, "md5": …, "count": …, "last_updated_output_at": …}``.
        """
        from airflow_provider_faraday.hooks.files import download_target

        return download_target(self.client, self.log, self.find_id("targets", target_id), path)[0]

    def ensure_webhook(self, url: str) -> dict[str, Any]:
        """Make sure that Faraday sends its webhooks to a URL: register it, or enable it.

        The secret that signs them is neither returned nor logged. It is in Faraday, and belongs in the extra
        ``webhook_secret`` of the Airflow connection. See docs/webhooks.md.

        https://faraday.ai/docs/reference/createwebhookendpoint

        :param url: the public URL of this Airflow, and below it the path
            ``/faraday/webhooks/<id of the Airflow connection>``.
        :return: the webhook endpoint: ``{"id": …, "url": …, "enabled_events": …, "status": …}``.
        """
        url = webhook_url(url)
        listed = self.client.fetch(endpoints.list_webhook_endpoints(), decode_objects).value
        existing = webhooks.find_endpoint(url, listed)
        if existing is None:
            what, endpoint = "registered", endpoints.create_webhook_endpoint()
            wanted: dict[str, Any] = {"url": url, "enabled_events": list(webhooks.EVENTS)}
        else:
            events = existing.get("enabled_events") or []
            wanted = {"status": "enabled", "enabled_events": list(dict.fromkeys([*events, *webhooks.EVENTS]))}
            if wanted.items() <= existing.items():
                self.log.info("Faraday sends webhooks to %s already.", url)
                return existing
            what, endpoint = "enabled", endpoints.update_webhook_endpoint(existing.get("id"))
        ensured = webhooks.without_secret(self.client.fetch(endpoint, decode_resource, json=wanted).value)
        self.log.info(
            "The webhook endpoint %s is %s for %s. Copy its secret from Faraday, where GET "
            "/webhook_endpoints/%s returns it, to the extra 'webhook_secret' of the Airflow connection '%s'.",
            ensured["id"],
            what,
            url,
            ensured["id"],
            self.faraday_conn_id,
        )
        return ensured

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Any = None,
        json: Any = None,
        data: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request to any endpoint of Faraday and return the response.

        Use it for endpoints without a method: ``hook.request("GET", "/scopes").json()``. Transient failures
        are retried: a ``GET`` always, other methods only if Faraday cannot have processed the request.
        To get all pages of a list, use :meth:`request_list`.

        :param method: HTTP method.
        :param path: path below the base URL, such as ``/scopes``. Absolute URLs are rejected, so
            that only Faraday receives the API key.
        :param params: query parameters, as in requests.
        :param json: payload. Its content type is ``application/merge-patch+json`` with ``PATCH``, otherwise
            ``application/json``.
        :param data: payload that is not JSON, instead of ``json``: a string or bytes.
        :param headers: headers in addition to the hook's, or instead of them, such as ``Content-Type``.
            ``Authorization`` is always the hook's.
        :return: the response, read completely; its status is 2xx.
        """
        payload: object = data
        if payload is not None and (json is not None or not isinstance(payload, (str, bytes))):
            raise FaradayInputError(
                "data must be a string or bytes, and cannot be combined with json.\n"
                "Read a file before you pass it."
            )
        fetched = self.client.fetch(
            endpoints.any_endpoint(method, path),
            lambda response: response.raw,
            params=params,
            json=json,
            data=data,
            headers=headers,
        )
        sent: requests.Response = fetched.value
        return sent

    def request_list(self, path: str, *, params: Any = None) -> list[dict[str, Any]]:
        """Send a ``GET`` request to any list endpoint of Faraday and return the items of all pages.

        :param path: path below the base URL, such as ``/scopes``, as for :meth:`request`.
        :param params: query parameters, as in requests. ``limit`` is the length of a page, not of the list.
        """
        # The items may hold secrets, like those of /webhook_endpoints.
        endpoint = replace(endpoints.any_endpoint("GET", path), private=True)
        return self.client.fetch(endpoint, decode_objects, params=params).value

    def _list_of(self, container: str, container_id: str, resource_type: str) -> list[dict[str, Any]]:
        kind, listed = resource_type_named(container), resource_type_named(resource_type)
        if kind.id_argument not in listed.listed_by:
            raise FaradayInputError(
                f"Faraday does not list {listed.plural} by {kind.label}.\nUse list_resources or request_list."
            )
        return self._list(endpoints.resources_of(kind, self.find_id(container, container_id), listed))

    def _ids(self, kind: ResourceType, given: list[str]) -> list[str]:
        if all(map(is_resource_id, given)):
            return given
        listed = self._list(endpoints.list_resources(kind))
        ids = (
            each if is_resource_id(each) else names.id_of(kind, each, listed, self.faraday_conn_id)
            for each in given
        )
        return list(dict.fromkeys(ids))

    def _list(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        return self.client.fetch(endpoint, decode_resources).value

    def _look_up(self) -> ClientConfig:
        return client_config(self.get_connection(self.faraday_conn_id))


def _form() -> dict[str, Any]:
    form: dict[str, Any] = get_provider_info()["connection-types"][0]
    return form

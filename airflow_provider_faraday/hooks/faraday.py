"""FaradayHook: Faraday's API behind an Airflow connection of type ``faraday``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_faraday.api import calls
from airflow_provider_faraday.exceptions import FaradayAuthenticationError, FaradayError, FaradayInputError
from airflow_provider_faraday.get_provider_info import get_provider_info
from airflow_provider_faraday.hooks.connection import client_config

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import requests

    from airflow_provider_faraday.api.config import ClientConfig
    from airflow_provider_faraday.api.responses import Decode
    from airflow_provider_faraday.hooks.requests_transport import RequestsTransport

T = TypeVar("T")


class FaradayHook(BaseHook):
    """Make authenticated calls to Faraday.

    The Airflow connection is looked up at the first call, and again when Faraday answers 401: a key that was
    replaced in the meantime is taken up.

    Every method raises :class:`~airflow_provider_faraday.exceptions.FaradayConfigurationError` where the
    connection cannot be used, :class:`~airflow_provider_faraday.exceptions.FaradayInputError` for an id that
    is no UUID (before anything is sent), and
    :class:`~airflow_provider_faraday.exceptions.FaradayApiError` or one of its subclasses where a call fails.

    :param faraday_conn_id: the Airflow connection: password is the API key, host the base URL if it is not
        https://api.faraday.ai/v1, extras are ``timeout`` (seconds), ``max_attempts``, ``proxy``, ``verify``
        and ``allow_http``.
    """

    conn_name_attr = "faraday_conn_id"
    default_conn_name = "faraday_default"
    conn_type = "faraday"
    hook_name = "Faraday"

    def __init__(self, faraday_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.faraday_conn_id = faraday_conn_id
        self._transport: RequestsTransport | None = None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Give the form's fields to Airflow before 3.2; later ones read them from the provider info."""
        from wtforms import BooleanField, IntegerField, StringField  # type: ignore[import-untyped,unused-ignore]

        field_classes = {"boolean": BooleanField, "integer": IntegerField}
        return {
            name: field_classes.get(field["schema"]["type"][0], StringField)(
                field["label"], description=field["description"]
            )
            for name, field in _form()["conn-fields"].items()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Give the form's labels to Airflow before 3.2; later ones read them from the provider info."""
        return {key.replace("-", "_"): value for key, value in _form()["ui-field-behaviour"].items()}

    def get_conn(self) -> requests.Session:
        """Give the configured session: it authenticates requests to the base URL's host, and only those.

        A whole answer may take five times the ``timeout`` of a request.
        """
        return self._ready_transport().session

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether Faraday accepts the key, and a sentence about it."""
        from airflow_provider_faraday.api.responses import account

        try:
            self._fetch(calls.current_account(), account)
        except (FaradayError, AirflowNotFoundException) as error:
            return False, str(error)
        return True, "Faraday accepts the key."

    def list_connection_datasets(self, connection_id: str) -> list[dict[str, Any]]:
        """Give all datasets of a Faraday connection, each with every field as Faraday sent it.

        https://faraday.ai/docs/reference/getconnectiondatasets

        :param connection_id: UUID of the Faraday connection.
        """
        return self._list(calls.connection_datasets(connection_id))

    def list_scope_datasets(self, scope_id: str) -> list[dict[str, Any]]:
        """Give the datasets behind a scope's population cohorts, each with every field as Faraday sent it.

        https://faraday.ai/docs/reference/getscopedatasets

        :param scope_id: UUID of the scope.
        """
        return self._list(calls.scope_datasets(scope_id))

    def list_datasets(self, ids: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Give the account's datasets, or those of the given ids that exist, each with every field.

        https://faraday.ai/docs/reference/getdatasets

        :param ids: UUIDs, asked for in batches of 100; None for the whole account, an empty list for none.
        """
        batches = [calls.all_datasets()] if ids is None else calls.datasets_by_id(ids)
        return [dataset for call in batches for dataset in self._list(call)]

    def get_dataset(self, dataset_id: str) -> dict[str, Any]:
        """Give one dataset with every field as Faraday sent it.

        https://faraday.ai/docs/reference/getdataset

        :param dataset_id: UUID of the dataset.
        """
        from airflow_provider_faraday.api.responses import one_dataset

        return self._fetch(calls.dataset(dataset_id), one_dataset)[0]

    def force_update_dataset(self, dataset_id: str) -> datetime | None:
        """Ask Faraday to rerun a dataset; its status may read ``ready`` for a while before the rerun begins.

        https://faraday.ai/docs/reference/forceupdatedataset

        :param dataset_id: UUID of the dataset.
        :return: when Faraday took the request, by its own clock, in UTC and whole seconds; None where its
            answer has no ``Date``.
        """
        from airflow_provider_faraday.api.responses import answered_at

        return self._fetch(calls.force_update(dataset_id), answered_at)[0]

    def _list(self, call: calls.ApiCall) -> list[dict[str, Any]]:
        from airflow_provider_faraday.api.responses import dataset_list

        return self._fetch(call, dataset_list)

    def _fetch(self, call: calls.ApiCall, decode: Decode[T]) -> list[T]:
        transport = self._ready_transport()
        try:
            return transport.fetch(call, decode)
        except FaradayAuthenticationError:
            current = self._look_up()
            if current.api_key == transport.config.api_key:
                raise
        self.log.info("The key in Airflow connection '%s' was replaced; using the new one.", current.conn_id)
        transport.close()
        self._transport = None
        return self._ready_transport(current).fetch(call, decode)

    def _ready_transport(self, config: ClientConfig | None = None) -> RequestsTransport:
        if self._transport is None:
            # Not at the top: a DAG file that names the hook loads no HTTP library when it is parsed.
            from airflow_provider_faraday.hooks.requests_transport import RequestsTransport

            self._transport = RequestsTransport(config or self._look_up())
        return self._transport

    def _look_up(self) -> ClientConfig:
        rendered: object = self.faraday_conn_id
        if not isinstance(rendered, str) or not rendered.strip():
            raise FaradayInputError(
                "faraday_conn_id must be the id of an Airflow connection, such as "
                f"{self.default_conn_name!r}, but is {type(rendered).__name__} "
                f"{str(rendered)[:80]!r}. If it comes from a template, check what it rendered to."
            )
        return client_config(self.get_connection(self.faraday_conn_id))


def _form() -> dict[str, Any]:
    form: dict[str, Any] = get_provider_info()["connection-types"][0]
    return form

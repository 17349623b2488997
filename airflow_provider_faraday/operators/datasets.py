"""Operators that list a Faraday connection's or scope's datasets, and that ask Faraday to rerun datasets."""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_faraday.api.errors import (
    FaradayApiError,
    FaradayAuthenticationError,
    FaradayInputError,
)
from airflow_provider_faraday.assets.datasets import attach_builds
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_faraday.hooks.faraday import FaradayHook


class _ListDatasetsOperator(BaseOperator):
    """What the list operators share: the Airflow connection, the fields and the log line."""

    ui_color = "#e8e4f8"

    def __init__(
        self, *, faraday_conn_id: str = "faraday_default", fields: Sequence[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.faraday_conn_id = faraday_conn_id
        self.fields = fields

    def execute(self, context: Context) -> list[dict[str, Any]]:
        # Not at the top: nothing that only a running task needs is loaded when a DAG file is parsed.
        from airflow_provider_faraday.api.datasets import checked_fields, count_by_status, trimmed
        from airflow_provider_faraday.api.readiness import states_of
        from airflow_provider_faraday.hooks.faraday import FaradayHook

        fields = checked_fields(self.fields)
        datasets = self._list(FaradayHook(self.faraday_conn_id))
        self.log.info("Faraday lists %s", count_by_status(datasets))
        if self.outlets:
            attach_builds(context, self.outlets, states_of(datasets))
        return [trimmed(dataset, fields) for dataset in datasets]

    def _list(self, hook: FaradayHook) -> list[dict[str, Any]]:
        raise NotImplementedError


class ListConnectionDatasetsOperator(_ListDatasetsOperator):
    """List all datasets of a Faraday connection and return them as a list of dicts (XCom ``return_value``).

    https://faraday.ai/docs/reference/getconnectiondatasets

    :param connection_id: UUID of the Faraday connection (templated).
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :param fields: the dataset fields to keep (templated); a name that a dataset does not have is absent.
        None keeps every field but ``sample``, which holds rows of customers' data.
    :raises FaradayInputError: where an argument cannot be used; nothing is sent then.
    :raises FaradayApiError: where Faraday does not give the list.
    """

    template_fields: Sequence[str] = ("connection_id", "faraday_conn_id", "fields")

    def __init__(self, *, connection_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.connection_id = connection_id

    def _list(self, hook: FaradayHook) -> list[dict[str, Any]]:
        return hook.list_connection_datasets(self.connection_id)


class ListScopeDatasetsOperator(_ListDatasetsOperator):
    """List the datasets behind a scope's population cohorts and return them as a list of dicts.

    https://faraday.ai/docs/reference/getscopedatasets

    :param scope_id: UUID of the scope (templated).
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :param fields: the dataset fields to keep (templated); a name that a dataset does not have is absent.
        None keeps every field but ``sample``, which holds rows of customers' data.
    :raises FaradayInputError: where an argument cannot be used; nothing is sent then.
    :raises FaradayApiError: where Faraday does not give the list.
    """

    template_fields: Sequence[str] = ("scope_id", "faraday_conn_id", "fields")

    def __init__(self, *, scope_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scope_id = scope_id

    def _list(self, hook: FaradayHook) -> list[dict[str, Any]]:
        return hook.list_scope_datasets(self.scope_id)


class ForceUpdateDatasetsOperator(DatasetsReadySensor):
    """Ask Faraday to rerun datasets, and wait for those very builds if asked to.

    Faraday reruns a dataset by itself when it sees changes; this is for a load that has just put them there.
    Archived datasets are left out. All others are asked for, also where Faraday refuses one of them: the
    error then names who was asked and who was not.

    Returns ``{"dataset_ids": […], "requested_at": "<ISO 8601>"}``, both also as XComs of their own:
    ``operator.output["requested_at"]``. ``requested_at`` is Faraday's clock, not
    the worker's, and later than every build that had ended before: a sensor with
    ``updated_after=requested_at`` waits for the builds that were asked for, while their status may still read
    ``ready`` or ``error`` from the last one. So does ``wait_for_completion=True``, in all that
    :class:`~airflow_provider_faraday.sensors.datasets.DatasetsReadySensor` says of waiting. A build that is
    under way when Faraday is asked cannot be told from the one that follows it; the log names such datasets.

    https://faraday.ai/docs/reference/forceupdatedataset

    :param datasets: dataset ids, or the dicts that a list operator pushed; one alone need not be in a list
        (templated).
    :param wait_for_completion: return when the builds have ended, every ``poke_interval`` seconds asking
        whether they have, for ``timeout`` seconds at most.
    :param fail_on_error: while waiting, fail at once when a build fails; False keeps waiting.
    :param faraday_conn_id: the Airflow connection of type ``faraday`` (templated).
    :param deferrable: wait in the triggerer; the default is Airflow's ``[operators] default_deferrable``.
    :raises NothingToWaitForError: where there is no dataset to ask for.
    :raises FaradayInputError: where an argument cannot be used; nothing is sent then.
    :raises FaradayApiError: where a dataset could not be asked for.
    """

    template_fields: Sequence[str] = ("datasets", "faraday_conn_id")
    ui_color = "#c3b4f0"

    def __init__(
        self,
        *,
        datasets: Sequence[str | dict[str, Any]],
        wait_for_completion: bool = False,
        fail_on_error: bool = True,
        faraday_conn_id: str = "faraday_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            datasets=datasets,
            fail_on_error=fail_on_error,
            faraday_conn_id=faraday_conn_id,
            deferrable=deferrable,
            **kwargs,
        )
        # So that .output["requested_at"] is what a sensor's updated_after takes.
        self.multiple_outputs = True
        self.wait_for_completion = wait_for_completion

    def execute(self, context: Context) -> dict[str, Any]:
        requested = self._request()
        if self.wait_for_completion:
            self._wait_for(requested)
            super().execute(context)
        return requested

    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any] | None = None,
        deadline: float | None = None,
    ) -> Any:
        """Go on after the trigger's event, as the sensor does; return what ``execute`` returns."""
        requested: dict[str, Any] = {}
        # What was asked for comes with the event: `airflow dags test` hands on nothing else.
        match event:
            case {"status": "ready", "dataset_ids": [*ids], "updated_after": str(requested_at)}:
                requested = {"dataset_ids": ids, "requested_at": requested_at}
                self._wait_for(requested)
            case {"status": "ready"}:
                raise self._unknown(event)
        super().execute_complete(context, event, deadline)
        return requested

    def _check_arguments(self) -> None:
        super()._check_arguments()
        if self.mode != "poke":
            raise FaradayInputError(
                f"ForceUpdateDatasetsOperator '{self.task_id}' cannot wait with mode='{self.mode}', in which "
                "every poll would ask for another rerun. Use deferrable=True to free the worker."
            )

    def _wait_for(self, requested: dict[str, Any]) -> None:
        self.datasets = requested["dataset_ids"]
        self.updated_after = requested["requested_at"]
        # Faraday has just answered; whatever fails from now on is worth waiting out.
        self._has_polled = True

    def _request(self) -> dict[str, Any]:
        from airflow_provider_faraday.api.calls import dataset_ids
        from airflow_provider_faraday.api.readiness import last_change, states_of
        from airflow_provider_faraday.exceptions import NothingToWaitForError

        self._check_arguments()
        ids = dataset_ids(self.datasets)
        before = {state.id.lower(): state for state in states_of(self._hook.list_datasets(ids))}
        archived = [state.label for state in before.values() if state.archived_at]
        if archived:
            self.log.info("Left out as archived: %s", ", ".join(archived))
        ids = [id_ for id_ in ids if id_ not in before or not before[id_].archived_at]
        if not ids:
            raise NothingToWaitForError(
                "There is no dataset to ask Faraday for: "
                f"{'all of them are archived' if archived else 'datasets is empty'}."
            )
        under_way = [state.label for state in before.values() if state.status in ("starting", "running")]
        if under_way:
            self.log.warning(
                "Faraday is just building %s. That build may have read its input before this request, and "
                "cannot be told from the one that follows it.",
                ", ".join(under_way),
            )
        requested_at = self._ask(ids)
        # The header has whole seconds: a build may have ended in that second, before the request.
        changes = [last_change(state) for state in before.values()]
        earliest = max((change + timedelta(milliseconds=1) for change in changes if change), default=None)
        requested_at = max(requested_at, earliest or requested_at)
        return {"dataset_ids": ids, "requested_at": requested_at.isoformat()}

    def _ask(self, ids: list[str]) -> datetime:
        """Ask for each dataset, and give the time at which Faraday took the first request."""
        times: list[datetime | None] = []
        refused: dict[str, FaradayApiError] = {}
        for id_ in ids:
            try:
                times.append(self._hook.force_update_dataset(id_))
            except FaradayApiError as error:
                refused[id_] = error
                if isinstance(error, FaradayAuthenticationError):
                    # It is not about this dataset, and every other would be refused alike.
                    refused |= dict.fromkeys(ids[ids.index(id_) :], error)
                    break
        if refused:
            raise _refusal([id_ for id_ in ids if id_ not in refused], refused)
        self.log.info("Faraday was asked to rerun %s", ", ".join(ids))
        if times[0] is None:
            self.log.warning(
                "Faraday's answer has no Date header, so that requested_at is this worker's clock. Where "
                "that is ahead of Faraday's, a wait for the build may never end."
            )
        return times[0] or datetime.now(UTC)


def _refusal(asked: list[str], refused: dict[str, FaradayApiError]) -> FaradayApiError:
    """Give the first error, saying of each dataset whether Faraday was asked to rerun it."""
    first = next(iter(refused.values()))
    if not asked and len(refused) == 1:
        return first
    error = copy(first)
    reasons = "; ".join(f"{id_}: {reason}" for id_, reason in refused.items())
    error.attempts = 1
    error.args = (
        f"Faraday was asked to rerun {len(asked)} of {len(asked) + len(refused)} datasets "
        f"({', '.join(asked) or 'none'}), but not the others: {reasons}",
    )
    return error

"""Request rebuilds of resources, and collect the requests that Faraday rejects."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_faraday.api.errors import FaradayApiError, FaradayAuthenticationError
from airflow_provider_faraday.api.readiness import Criteria
from airflow_provider_faraday.api.resources import resource_type_named
from airflow_provider_faraday.api.states import states_of
from airflow_provider_faraday.api.text import first_of
from airflow_provider_faraday.exceptions import NothingToWaitForError
from airflow_provider_faraday.waiting.source import Source
from airflow_provider_faraday.waiting.wait import Wait

if TYPE_CHECKING:
    from airflow_provider_faraday.hooks.faraday import FaradayHook


class Rebuilds:
    """Rebuilds of the resources of a source.

    :param found: the resources, as Faraday sent them.
    :param log: the task's logger.
    :ivar resources: the resources to rebuild: those found, without archived resources and previews.
    """

    def __init__(self, source: Source, found: list[dict[str, Any]], log: Any) -> None:
        self._source = source
        self._log = log
        states = states_of(source.type, found)
        self._states = {state.key: state for state in states}
        # Faraday omits unknown ids from a list, but rejects a request to update one.
        ids = self._states if source.ids is None else source.ids
        self._ids = [id_ for id_ in ids if id_ not in self._states or not self._states[id_].why_skipped]
        pairs = zip(states, found, strict=True)
        self.resources = [resource for state, resource in pairs if not state.why_skipped]

    def request(self, hook: FaradayHook, *, allow_empty: bool) -> dict[str, datetime]:
        """Request the rebuilds. Return the time at which Faraday accepted each, by resource id.

        :param allow_empty: whether there may be nothing to rebuild.
        :raises NothingToWaitForError: if there is nothing to rebuild.
        :raises FaradayApiError: if requests are rejected. All others have been sent by then.
        """
        skipped = first_of(
            [state for state in self._states.values() if state.why_skipped],
            lambda state: f"{state.label}: {state.why_skipped}",
        )
        if not self._ids:
            why = f"all are skipped: {skipped}" if skipped else "none found"
            message = f"There are no {self._source.type.plural} to update ({why})."
            if not allow_empty:
                raise NothingToWaitForError(
                    f"{message}\nCheck the ids, or set allow_empty=True to continue anyway."
                )
            self._log.info("%s", message)
            return {}
        if skipped:
            self._log.info("Skipped: %s", skipped)
        self._log_running()
        requested_at: dict[str, datetime] = {}
        rejected: dict[str, FaradayApiError] = {}
        for n, id_ in enumerate(self._ids):
            try:
                requested_at[id_] = self._request(hook, id_)
            except FaradayAuthenticationError as error:
                # The remaining requests would be rejected, too.
                rejected |= dict.fromkeys(self._ids[n:], error)
                break
            except FaradayApiError as error:
                rejected[id_] = error
        if requested_at:
            self._log.info("Requested a rebuild of %s", first_of(requested_at, self._label))
        if rejected:
            raise self._rejection(rejected)
        return requested_at

    def _request(self, hook: FaradayHook, id_: str) -> datetime:
        accepted_at = hook.force_update(self._source.type.name, id_) or datetime.now(UTC)
        # The header has whole seconds: a build may have ended within that second, before the request.
        change = self._states[id_].changed_at if id_ in self._states else None
        return max(accepted_at, change + timedelta(milliseconds=1)) if change else accepted_at

    def _log_running(self) -> None:
        running = [id_ for id_, state in self._states.items() if state.status in ("starting", "running")]
        if running:
            self._log.warning(
                "Already building: %s. Such a build counts as the requested one if it reads its input after "
                "this request, or if Faraday does not say when it did.",
                first_of(running, self._label),
            )

    def _label(self, id_: str) -> str:
        return self._states[id_].label if id_ in self._states else id_

    def _rejection(self, rejected: dict[str, FaradayApiError]) -> FaradayApiError:
        """Return the first error. If there are several resources, its message is about all of them."""
        error = next(iter(rejected.values()))
        total = len(self._ids)
        if total > 1:
            reasons = first_of(
                rejected, lambda id_: f"{self._label(id_)}: {rejected[id_].args[0]}", separator="; "
            )
            error.args = (
                f"Requested a rebuild of {total - len(rejected)} of {total} {self._source.type.plural}. "
                f"The others failed: {reasons}",
            )
        return error


def new_wait(task: Any, requested_at: dict[str, datetime]) -> Wait:
    """Return the wait of a force update for the builds that it has requested."""
    return Wait(
        faraday_conn_id=task.faraday_conn_id,
        source=Source(
            resource_type_named(task.resource_type),
            ids=tuple(requested_at),
            include_upstream=task.include_upstream,
        ),
        criteria=Criteria(
            updated_after=requested_at, fail_on_error=task.fail_on_error, allow_empty=task.allow_empty
        ),
        poke_interval=task.poke_interval,
        deadline=time.time() + task.timeout,
        log=task.log,
        checks=task.checks,
        # Faraday has just responded, so failures from now on are retried.
        has_polled=True,
    )

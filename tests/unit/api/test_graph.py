"""Upstream: what a resource is built from, and when that blocks it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import msgspec
import pytest

from airflow_provider_faraday.api.errors import FaradayApiError, FaradayInputError, FaradayResponseError
from airflow_provider_faraday.api.graph import Graph, PreviewKey, decode_edges
from airflow_provider_faraday.api.readiness import Criteria, Verdict, assess
from airflow_provider_faraday.api.resources import RESOURCE_TYPES
from airflow_provider_faraday.api.responses import Response
from airflow_provider_faraday.api.retries import is_transient
from airflow_provider_faraday.api.states import state_type
from support.graphs import BUILT, chain, edge, node

REASON = "Not enough rows"
AFTER, LATER = (datetime(2026, 1, day, tzinfo=UTC) for day in (3, 4))
NOW = datetime(2026, 1, 4, 0, 10, tzinfo=UTC)


def built(time: str, **fields: Any) -> dict[str, Any]:
    """Return the fields of a resource that was built in January 2026, such as ``"03T12:00"``."""
    return {"last_updated_output_at": f"2026-01-{time}:00Z", **fields}


def dataset(**fields: Any) -> dict[str, Any]:
    return node("d", "datasets", "Orders", **fields)


def cohort(**fields: Any) -> dict[str, Any]:
    return node("c", "cohorts", "Customers", **fields)


def outcome(**fields: Any) -> dict[str, Any]:
    return node("o", "outcomes", "Will buy", **fields)


def scope(**fields: Any) -> dict[str, Any]:
    return node("s", "scopes", "Likely buyers", **fields)


def target(**fields: Any) -> dict[str, Any]:
    return node("t", "targets", "Buyers table", **fields)


def pipeline(**changed: dict[str, Any]) -> list[dict[str, Any]]:
    return chain(
        *({"d": dataset(), "c": cohort(), "o": outcome(), "s": scope(), "t": target()} | changed).values()
    )


def graph_of(edges: list[dict[str, Any]]) -> Graph:
    return Graph(decode_edges(Response(200, {}, json.dumps(edges).encode())))


def verdict(
    graph: Graph | list[dict[str, Any]],
    waited: dict[str, Any] | None = None,
    type_name: str = "targets",
    now: datetime = NOW,
    **criteria: Any,
) -> Verdict:
    kind = RESOURCE_TYPES[type_name]
    state = msgspec.convert(waited or target(), state_type(kind))
    graph = graph_of(graph) if isinstance(graph, list) else graph
    return assess(kind, [state], Criteria(**criteria), None, graph, now=now)


def test_ready_if_upstream_resources_are_up_to_date() -> None:
    assert verdict(pipeline()).is_ready


@pytest.mark.parametrize("type_name", ["streams", "accounts", "moons", None])
def test_any_type_of_resource_upstream_blocks(type_name: str) -> None:
    result = verdict([edge(node("x", type_name, "Something", status="running"), target())])
    assert result.problem is None
    assert "'Something' (x): status running (1 step upstream)" in result.pending


def test_the_nearest_is_named_first_with_its_distance() -> None:
    waited = target(status="running")
    edited = cohort(last_updated_config_at="2026-01-05T00:00:00Z")
    edges = pipeline(d=dataset(status="starting"), c=edited, o=outcome(status="new"), t=waited)
    assert verdict(edges, waited).description == (
        "0 of 1 targets ready; waiting for: target 'Buyers table' (t): status running, "
        "outcome 'Will buy' (o): status new (2 steps upstream), cohort 'Customers' (c): ready, but its "
        "configuration changed at 2026-01-05T00:00:00.000Z, after its last build (3 steps upstream), "
        "dataset 'Orders' (d): status starting (4 steps upstream)"
    )


@pytest.mark.parametrize(
    ("upstream", "waited", "criteria"),
    [
        ({"status": "error"}, {}, {}),
        ({"status": "error"}, {"status": "running"}, {"fail_on_error": False}),
        ({"archived_at": BUILT}, {}, {"updated_after": AFTER, "unchanged_after": 60}),
        ({}, {"status": "error"}, {}),
        ({}, {"archived_at": BUILT}, {}),
    ],
)
def test_a_message_names_at_most_ten_resources(
    upstream: dict[str, Any], waited: dict[str, Any], criteria: dict[str, Any]
) -> None:
    datasets = [node(f"d{number:02}", "datasets", **upstream) for number in range(15)]
    targets = [node(f"t{number:02}", "targets", **waited) for number in range(15)]
    graph = graph_of([edge(each, scope()) for each in datasets] + [edge(scope(), each) for each in targets])
    kind = RESOURCE_TYPES["targets"]
    states = msgspec.convert(targets, list[state_type(kind)])  # type: ignore[misc]
    for found, ids in ((states, None), ([], [each["id"] for each in targets])):
        result = assess(kind, found, Criteria(**criteria), ids, graph, now=NOW)
        for text in (result.description, result.pending, str(result.problem)):
            for prefix in "dt":
                assert len(set(re.findall(rf"{prefix}\d\d", text))) <= 10


def test_an_error_upstream_fails_unless_it_is_to_be_waited_for() -> None:
    edges = pipeline(o=outcome(status="error", status_error=f"{REASON}."))
    problem = verdict(edges).problem
    assert problem is not None
    assert problem.kind == "failed"
    assert problem.message == (
        f"Faraday could not build outcome 'Will buy' (o): {REASON} "
        "(upstream of scope 'Likely buyers' → target 'Buyers table')."
    )
    result = verdict(edges, fail_on_error=False)
    assert result.problem is None
    assert f"outcome 'Will buy' (o): status error, {REASON} (2 steps upstream)" in result.pending


@pytest.mark.parametrize(("failed_at", "kind"), [(BUILT, None), ("2026-01-03T00:00:00Z", "failed")])
def test_only_an_error_since_updated_after_fails(failed_at: str, kind: str | None) -> None:
    failed = outcome(status="error", status_changed_at=failed_at)
    result = verdict(pipeline(o=failed), target(**built("03T01:00")), updated_after=AFTER)
    assert not result.is_ready
    assert (result.problem and result.problem.kind) == kind


@pytest.mark.parametrize("status", ["running", "error"])
def test_what_was_built_since_updated_after_does_not_block(status: str) -> None:
    edges = pipeline(d=dataset(status=status, status_changed_at="2026-01-03T02:00:00Z", **built("03T01:00")))
    rebuilt = target(**built("03T01:30"))
    assert verdict(edges, rebuilt, updated_after=AFTER).is_ready
    assert not verdict(edges, rebuilt).is_ready


def test_a_resource_without_edges_is_judged_alone() -> None:
    assert verdict([], dataset(), "datasets").is_ready
    assert not verdict([], dataset(status="running"), "datasets").is_ready


@pytest.mark.parametrize("type_name", ["targets", "scopes", "outcomes"])
def test_what_always_has_upstream_resources_must_be_in_the_graph(type_name: str) -> None:
    with pytest.raises(FaradayResponseError, match="does not have") as caught:
        verdict([], node("x", type_name), type_name)
    assert is_transient(caught.value)


class TestNewerThanTheList:
    @pytest.mark.parametrize(
        ("status", "changed_at"), [("running", BUILT), ("error", BUILT), ("error", None)]
    )
    def test_the_state_of_the_graph_counts(self, status: str, changed_at: str | None) -> None:
        result = verdict(pipeline(t=target(status=status, status_changed_at=changed_at)))
        assert not result.is_ready
        assert (result.problem is not None) == (status == "error")
        assert not verdict(pipeline(), target(status=status, status_changed_at=changed_at)).is_ready

    def test_unless_that_of_the_list_is_certainly_newer(self) -> None:
        failed = target(status="error", status_changed_at="2026-01-01T00:00:00Z", last_updated_output_at=None)
        result = verdict(pipeline(t=failed))
        assert result.problem is None
        assert not result.is_ready

    def test_an_old_error_without_a_time_in_the_graph_is_waited_out(self) -> None:
        """The graph has no ``updated_at``."""
        failed = target(status="error", status_changed_at=None)
        result = verdict(pipeline(t=failed), {**failed, "updated_at": BUILT}, updated_after=AFTER)
        assert result.problem is None
        assert not result.is_ready


class TestSkipped:
    def test_archived_resources_are_named_and_hide_what_is_behind_them(self) -> None:
        edges = pipeline(d=dataset(status="error"), o=outcome(status="running", archived_at=BUILT))
        result = verdict(edges)
        assert result.is_ready
        assert "skipped: outcome 'Will buy' (o): archived (upstream)" in result.description

    def test_what_is_reached_by_another_path_blocks(self) -> None:
        edges = [*pipeline(o=outcome(archived_at=BUILT)), edge(cohort(status="running"), scope())]
        assert not verdict(edges[::-1]).is_ready

    def test_previews_are_named_and_hide_what_is_behind_them(self) -> None:
        graph = graph_of(drafts(status="new"))
        assert looked_up(graph, {}) == {"outcomes": [DRAFT, OTHER_DRAFT]}
        known = dict.fromkeys(PREVIEW_KEYS, True)
        assert looked_up(graph, known) == {}
        assert not verdict(graph).is_ready
        result = verdict(graph.with_previews(known, ["t"]))
        assert result.is_ready
        assert f"outcome 'Draft' ({DRAFT}): a preview" in result.description
        # A preview can be turned into the real thing.
        changed = graph_of(drafts(last_updated_config_at="2026-01-06T00:00:00Z"))
        assert looked_up(changed, known) == {"outcomes": [DRAFT, OTHER_DRAFT]}
        assert verdict(changed.with_previews(known, ["t"])).problem

    def test_only_outdated_resources_and_their_downstream_are_looked_up(self) -> None:
        chained = chain(cohort(), node(DRAFT, "outcomes"), target())
        assert looked_up(graph_of(chained), {}) == {}
        # Other ids cannot be requested.
        odd = chain(node("no-uuid", "outcomes", status="running"), target())
        assert looked_up(graph_of(odd), {}) == {}

    def test_previews_on_longer_paths_are_looked_up_too(self) -> None:
        failed = cohort(status="error")
        paths = [
            *chain(failed, node(DRAFT, "outcomes"), scope(), target()),
            *chain(failed, node(OTHER_DRAFT, "persona_sets"), outcome(), scope()),
        ]
        assert looked_up(graph_of(paths), {}) == {"outcomes": [DRAFT], "persona_sets": [OTHER_DRAFT]}

    def test_previews_that_read_ready_hide_an_error_behind_them(self) -> None:
        graph = graph_of(drafts())
        assert verdict(graph.with_previews(dict.fromkeys(PREVIEW_KEYS, True), ["t"])).is_ready
        one_of_them = dict(zip(PREVIEW_KEYS, (True, False), strict=True))
        assert verdict(graph.with_previews(one_of_them, ["t"])).problem

    def test_what_may_be_a_preview_is_a_transient_error_for_what_is_downstream(self) -> None:
        graph = graph_of([*drafts(), edge(dataset(), node("u", "targets"))])
        unclear = graph.with_previews({}, ["t", "u"], FaradayApiError("Oh no."))
        with pytest.raises(FaradayApiError, match=r"previews\. Oh no\.") as caught:
            verdict(unclear)
        assert is_transient(caught.value)
        assert verdict(unclear, node("u", "targets")).is_ready


DRAFT, OTHER_DRAFT = (f"e0000000-0000-4000-8000-00000000000{n}" for n in (1, 2))
PREVIEW_KEYS = [(id_, "2026-01-01T00:00:00Z") for id_ in (DRAFT, OTHER_DRAFT)]


def drafts(**fields: Any) -> list[dict[str, Any]]:
    """Two outcomes of a failed cohort, both of which a target delivers."""
    failed = cohort(status="error", status_error=REASON)
    paths = (
        chain(failed, node(id_, "outcomes", "Draft", **fields), target()) for id_ in (DRAFT, OTHER_DRAFT)
    )
    return [edge for path in paths for edge in path]


def looked_up(graph: Graph, known: dict[PreviewKey, bool]) -> dict[str, list[str]]:
    requests = graph.preview_requests(["t"], known)
    return {kind.name: [id_ for _, id_ in endpoint.query] for kind, endpoint in requests}


class TestShapes:
    def test_a_cycle_ends(self) -> None:
        cycles = [edge(target(), dataset()), edge(scope(), scope())]
        assert verdict([*pipeline(), *cycles]).is_ready
        assert "(3 steps upstream)" in verdict([*pipeline(c=cohort(status="running")), *cycles]).pending

    def test_a_diamond_is_named_once_by_its_shortest_path(self) -> None:
        failed = dataset(status="error", status_error=REASON)
        shortest = chain(failed, node("x", "scopes", "All"), target())
        problem = verdict([*shortest, *pipeline(d=failed)]).problem
        assert problem is not None
        assert problem.message.count(REASON) == 1
        assert "(upstream of scope 'All' → target 'Buyers table')" in problem.message

    def test_ids_are_compared_without_case(self) -> None:
        edges = [edge(node("AB", "datasets", status="running"), scope()), edge(node("S", "scopes"), target())]
        assert not verdict(edges).is_ready

    @pytest.mark.parametrize("newer_first", [False, True])
    def test_a_resource_that_began_to_build_between_two_pages_blocks(self, newer_first: bool) -> None:
        edges = [edge(cohort(), outcome()), edge(dataset(), cohort(status="running"))]
        assert not verdict([*edges[:: -1 if newer_first else 1], *pipeline()]).is_ready

    def test_fields_may_be_missing_or_null(self) -> None:
        result = verdict([{"upstream_id": "d", "downstream_id": "t", "upstream_status": None}])
        assert "resource d: no status (1 step upstream)" in result.pending

    @pytest.mark.parametrize(
        "odd",
        [
            {"upstream_id": "d"},
            {"upstream_id": None, "downstream_id": 5},
            {"upstream_id": "x", "downstream_id": "y", "upstream_type": 5, "upstream_status": []},
            {"upstream_id": "x", "downstream_id": "y", "upstream_type": "\0"},
        ],
    )
    def test_an_odd_edge_is_ignored(self, odd: dict[str, Any]) -> None:
        assert verdict([*pipeline(), odd, {**edge(dataset(), cohort()), "upstream_status": None}]).is_ready
        assert not verdict([*pipeline(c=cohort(status="running")), odd]).is_ready


class TestReadTooEarly:
    """A build that read its input before the builds that it must contain is waited out for ten minutes."""

    def result(self, read_at: str | None, now: datetime = NOW, **edges: dict[str, Any]) -> Verdict:
        waited = target(**built("04T00:05", last_read_input_at=read_at))
        graph = pipeline(**{"d": dataset(**built("04T00:01")), "t": waited} | edges)
        return verdict(graph, waited, now=now, updated_after={"d": AFTER})

    def test_a_build_that_began_before_the_refreshed_dataset_was_built_does_not_count(self) -> None:
        result = self.result("2026-01-04T00:00:59Z")
        assert "read its input at 2026-01-04T00:00:59.000Z" in result.pending
        assert result.changes_in == 300
        assert self.result("2026-01-04T00:01:00Z").is_ready
        # Without the field, the end of the build decides.
        assert self.result(None).is_ready
        late = self.result(None, s=scope(**built("04T00:06")))
        assert "its last build ended at 2026-01-04T00:05:00.000Z" in late.pending

    def test_it_counts_ten_minutes_after_its_end(self) -> None:
        result = self.result("2026-01-04T00:00:59Z", now=NOW + timedelta(minutes=5))
        assert result.is_ready
        assert "counts after 10 minutes, although" in result.description

    def test_a_build_in_the_far_future_is_waited_for(self) -> None:
        far = scope(last_updated_output_at="9999-12-31T23:59:59Z", last_read_input_at="2026-01-02T00:00:00Z")
        assert "(s): ready, but its last build read its input" in self.result("2026-01-04", s=far).pending

    @pytest.mark.parametrize("stale", [scope, dataset])
    def test_an_upstream_build_that_read_too_early_blocks(self, stale: Any) -> None:
        state = stale(**built("04T00:03", last_read_input_at="2026-01-02T00:00:00Z"))
        edges = {state["id"]: state}
        result = self.result("2026-01-04T00:04:00Z", **edges)
        assert f"({state['id']}): ready, but its last build read its input" in result.pending
        assert self.result("2026-01-04T00:04:00Z", now=NOW + timedelta(minutes=5), **edges).is_ready

    def test_a_build_must_contain_the_builds_in_between(self) -> None:
        """The scope is built twice, and the target has read the first build."""
        assert not self.result("2026-01-04T00:04:00Z", s=scope(**built("04T00:06"))).is_ready


class TestTimesPerResource:
    """``updated_after`` as a dict, such as the ``requested_at`` of a force update."""

    @pytest.mark.parametrize(("time", "ready"), [("03T12:00", False), ("04T12:00", True)])
    def test_the_latest_time_upstream_counts(self, time: str, ready: bool) -> None:
        rebuilt = built("04T00:00")
        edges = [*pipeline(d=dataset(**rebuilt)), edge(node("e", "datasets", **rebuilt), cohort())]
        times = {"d": AFTER, "e": LATER}
        assert verdict(edges, target(**built(time)), updated_after=times).is_ready == ready

    @pytest.mark.parametrize(("status", "ready"), [("ready", True), ("running", False)])
    def test_a_build_from_before_the_last_requested_one_ended_does_not_count(
        self, status: str, ready: bool
    ) -> None:
        """Two refreshes: the first one's cascade delivers before the second one is done."""
        slow, early = node("e", "datasets", "Slow", **built("05T00:00")), built("04T06:00")
        busy = cohort(status=status, **early)
        edges = [*pipeline(d=dataset(**built("04T01:00")), c=busy), edge(slow, busy)]
        times = {"d": AFTER, "e": LATER}
        result = verdict(edges, target(**early), updated_after=times)
        assert not result.is_ready
        assert ("'Customers' (c): status running (3 steps upstream)" in result.pending) is not ready
        assert verdict(edges, target(**built("05T06:00")), updated_after=times).is_ready == ready

    def test_a_resource_with_a_time_of_its_own_must_contain_the_others(self) -> None:
        edges = pipeline(d=dataset(**built("04T00:02")))
        times = {"t": AFTER, "d": LATER}
        criteria = {"updated_after": times, "unchanged_after": 60}
        assert not verdict(edges, target(**built("03T12:00")), updated_after=times).is_ready
        assert verdict(edges, target(**built("04T00:03")), **criteria).is_ready
        assert verdict(edges, target(**built("03T12:00")), **criteria).unchanged == {"t"}
        # The update that was requested for it has not been done.
        assert not verdict(edges, target(**built("02T12:00")), **criteria).is_ready

    def test_a_requested_build_that_has_not_begun_blocks(self) -> None:
        result = verdict(pipeline(), target(**built("03T12:00")), updated_after={"d": AFTER})
        assert "'Orders' (d): ready, but its last build (2026-01-02T00:00:00.000Z) is older" in result.pending
        assert "(4 steps upstream)" in result.pending

    @pytest.mark.parametrize(
        ("times", "says"),
        [
            ({}, r"times for 0 ids.*\n.*skip this task"),
            (
                {"x": AFTER},
                r"or for a resource upstream of it\.\nPass a single time, or wait only for these ids\.",
            ),
        ],
    )
    def test_a_resource_without_a_time_is_an_input_error(self, times: dict[str, datetime], says: str) -> None:
        with pytest.raises(FaradayInputError, match=says):
            verdict(pipeline(), updated_after=times)

    def test_an_error_of_a_listed_resource_is_compared_with_its_own_time(self) -> None:
        failed_at = {"status": "error", "status_changed_at": "2026-01-03T12:00:00Z"}
        edges = [*pipeline(d=dataset(**failed_at)), edge(node("e", "datasets"), cohort())]
        times = {"d": AFTER, "e": LATER}
        assert verdict(edges, updated_after=times).problem
        # Without a time of its own, it is compared with the latest one.
        other = edge(node("x", "datasets", **failed_at), cohort())
        assert verdict([*pipeline(), other], updated_after=times).problem is None
        # Not with that of a build, which may be later.
        rebuilt = pipeline(d=dataset(**built("05T00:00")))
        late = edge(node("x", "datasets", status="error", status_changed_at="2026-01-04T12:00:00Z"), cohort())
        assert verdict([*rebuilt, late], updated_after=times).problem


class TestUnchanged:
    """Faraday rebuilds what is downstream only if it detects changes."""

    rebuilt = pipeline(d=dataset(**built("04T00:00")))

    def test_ready_when_nothing_changed_for_that_long(self) -> None:
        result = verdict(self.rebuilt, updated_after=AFTER, unchanged_after=600)
        assert result.is_ready
        assert result.unchanged == {"t"}
        assert "target 'Buyers table' is unchanged: nothing upstream has changed since" in result.description

    @pytest.mark.parametrize("seconds", [601, None])
    def test_waits_until_then(self, seconds: float | None) -> None:
        result = verdict(self.rebuilt, updated_after=AFTER, unchanged_after=seconds)
        assert not result.is_ready
        assert result.problem is None
        assert result.unchanged == set()
        assert result.changes_in == (1 if seconds else inf)
        assert "see unchanged_after" in result.pending

    def test_counts_from_updated_after_at_the_earliest(self) -> None:
        criteria: dict[str, Any] = {"updated_after": AFTER, "now": AFTER + timedelta(minutes=5)}
        assert not verdict(pipeline(), unchanged_after=301, **criteria).is_ready
        assert verdict(pipeline(), unchanged_after=300, **criteria).is_ready

    def test_not_while_the_graph_has_another_status(self) -> None:
        building = target(status="running", status_changed_at=None, **built("01T12:00"))
        assert not verdict(pipeline(t=building), updated_after=AFTER, unchanged_after=600).is_ready

    @pytest.mark.parametrize("time", ["02T00:00", "03T12:00"])
    def test_not_while_an_upstream_resource_is_outdated(self, time: str) -> None:
        edges = pipeline(c=cohort(status="running", **built(time)))
        assert not verdict(edges, updated_after=AFTER, unchanged_after=600).is_ready

    def test_not_if_a_requested_build_has_not_begun(self) -> None:
        times = {"d": AFTER}
        for requested in (times, {"t": AFTER}):
            assert not verdict(pipeline(), updated_after=requested, unchanged_after=1).is_ready
        assert verdict(self.rebuilt, updated_after=times, unchanged_after=1).unchanged == {"t"}

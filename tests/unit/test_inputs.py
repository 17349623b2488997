"""Inputs: whatever a template renders to by mistake is an error in a sentence, and nothing is sent."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import date, time, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_faraday.api.inputs import resource_ids
from airflow_provider_faraday.exceptions import FaradayInputError
from airflow_provider_faraday.hooks.faraday import FaradayHook
from airflow_provider_faraday.operators.datasets import (
    ForceUpdateDatasetsOperator,
    ListConnectionDatasetsOperator,
    ListScopeDatasetsOperator,
)
from airflow_provider_faraday.operators.resources import ListResourcesOperator
from airflow_provider_faraday.sensors.datasets import DatasetsReadySensor
from airflow_provider_faraday.sensors.resources import ResourcesReadySensor
from airflow_provider_faraday.transfers.uploads import UploadFileOperator
from support.ids import CUSTOMERS, ORDERS, SCOPE, WAREHOUSE
from support.run_dag import AIRFLOW_3

if TYPE_CHECKING:
    from airflow_provider_faraday.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("faraday_default")

FIRST: Any = {"task_reschedule_count": 0}


class MappedOutput(Sequence[Any]):
    """The output of a mapped task as Airflow passes it: a sequence that is not a list."""

    def __init__(self, *items: Any) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]


# How a value gets to where it is used: Airflow sets the attribute after rendering the template.
Use = Callable[[Any], Any]


def operator(kind: Any, **arguments: Any) -> Callable[[str], Use]:
    def rendered(attribute: str) -> Use:
        def use(value: Any) -> Any:
            task = kind(task_id="t", **arguments)
            setattr(task, attribute, value)
            return task.execute({})

        return use

    return rendered


def sensor(**arguments: Any) -> Callable[[str], Use]:
    def rendered(attribute: str) -> Use:
        def use(value: Any) -> Any:
            task = DatasetsReadySensor(task_id="t", **arguments)
            setattr(task, attribute, value)
            return task.poke(FIRST)

        return use

    return rendered


USES: dict[str, Use] = {
    "list operator's connection_id": operator(ListConnectionDatasetsOperator, connection_id="{{ x }}")(
        "connection_id"
    ),
    "list operator's scope_id": operator(ListScopeDatasetsOperator, scope_id="{{ x }}")("scope_id"),
    "list operator's fields": operator(ListScopeDatasetsOperator, scope_id=SCOPE)("fields"),
    "list operator's faraday_conn_id": operator(ListScopeDatasetsOperator, scope_id=SCOPE)("faraday_conn_id"),
    "force update's datasets": operator(ForceUpdateDatasetsOperator, datasets="{{ x }}")("datasets"),
    "force update's faraday_conn_id": operator(ForceUpdateDatasetsOperator, datasets=[ORDERS])(
        "faraday_conn_id"
    ),
    "sensor's connection_id": sensor(connection_id="{{ x }}")("connection_id"),
    "sensor's scope_id": sensor(scope_id="{{ x }}")("scope_id"),
    "sensor's datasets": sensor(datasets="{{ x }}")("datasets"),
    "sensor's fields": sensor(scope_id=SCOPE)("fields"),
    "sensor's updated_after": sensor(scope_id=SCOPE)("updated_after"),
    "sensor's faraday_conn_id": sensor(scope_id=SCOPE)("faraday_conn_id"),
    "hook's connection_id": lambda value: FaradayHook().list_connection_datasets(value),
    "hook's scope_id": lambda value: FaradayHook().list_scope_datasets(value),
    "hook's dataset_id": lambda value: FaradayHook().get_dataset(value),
    "hook's dataset_id to force": lambda value: FaradayHook().force_update_dataset(value),
    "hook's ids": lambda value: FaradayHook().list_datasets(value),
    "hook's faraday_conn_id": lambda value: FaradayHook(value).list_datasets(),
}

NOT_TEXT: dict[str, Any] = {
    "a number": 7,
    "a fraction": 1.5,
    "not a number": float("nan"),
    "true": True,
    "bytes": WAREHOUSE.encode(),
    "a dict": {"id": WAREHOUSE},
    "a list": [WAREHOUSE],
    "a mapped task's output": MappedOutput(WAREHOUSE),
    "a timedelta": timedelta(1),
}
NOT_AN_ID: dict[str, Any] = NOT_TEXT | {
    "empty text": "",
    "a space": " ",
    "the text None": "None",
    "a template that was not rendered": "{{ params.id }}",
    "a dict as text": f"{{'id': '{WAREHOUSE}'}}",
    "a list as text": f"['{WAREHOUSE}']",
    "an id with a space": f"{WAREHOUSE} ",
    "an id without its last digit": WAREHOUSE[:-1],
    "an id without hyphens": WAREHOUSE.replace("-", ""),
}
NOT_A_LIST: dict[str, Any] = {
    "empty text": "",
    "text of a list": f"['{ORDERS}']",
    "bytes": b"id",
    "a dict": {"name": "orders"},
    "a number": 7,
    "false": False,
}
NOT_DATASETS: dict[str, Any] = NOT_A_LIST | {
    "a list of None": [None],
    "a list of numbers": [7],
    "a list of bytes": [ORDERS.encode()],
    "a list of lists of lists": [[[ORDERS]]],
    "a list of dicts without id": [{"name": "orders"}],
    "a list of dicts whose id is None": [{"id": None}],
    "a list with one wrong id": [CUSTOMERS, ORDERS[:-1]],
    "a single one without an id": {"id": None, "name": "orders"},
}
NOT_FIELDS: dict[str, Any] = NOT_A_LIST | {
    "an id": ORDERS,
    "an empty list": [],
    "a list of None": [None],
    "a list of lists": [["id"]],
    "a list of bytes": [b"id"],
}
NOT_A_TIME: dict[str, Any] = NOT_TEXT | {
    "empty text": "",
    "the text None": "None",
    "a word": "yesterday",
    "a template that was not rendered": "{{ ts }}",
    "a day": date(2026, 1, 31),
    "a time of day": time(6),
    "seconds since the epoch, as text": "1767225600",
    "a month that does not exist": "2026-13-01T00:00:00Z",
}

TABLE: list[tuple[str, dict[str, Any], str]] = [
    *(
        (
            use,
            NOT_AN_ID | ({"None": None} if use.startswith("hook") else {}),
            r"_id must be the UUID or the exact name of a Faraday resource, but is ",
        )
        for use in USES
        if use.endswith(("connection_id", "scope_id", "dataset_id", "force")) and "sensor" not in use
    ),
    (
        "sensor's connection_id",
        NOT_AN_ID,
        "connection_id must be the UUID or the exact name of a Faraday resource, but is ",
    ),
    (
        "sensor's scope_id",
        NOT_AN_ID,
        "scope_id must be the UUID or the exact name of a Faraday resource, but is ",
    ),
    *(
        (use, {"None": None}, "was given .*, but the rendered value is None")
        for use in (
            "list operator's connection_id",
            "list operator's scope_id",
            "force update's datasets",
            "sensor's connection_id",
            "sensor's scope_id",
            "sensor's datasets",
        )
    ),
    ("sensor's datasets", NOT_DATASETS, r"datasets(\[\d\])? must be (a list of ids|the UUID)"),
    (
        "force update's datasets",
        NOT_DATASETS,
        r"datasets(\[\d\])? must be (a list of ids|the UUID)",
    ),
    ("hook's ids", NOT_DATASETS, r"ids(\[\d\])? must be (a list of ids|the UUID)"),
    ("list operator's fields", NOT_FIELDS, "fields must be a list of field names"),
    ("sensor's fields", NOT_FIELDS, "fields must be a list of field names"),
    ("sensor's updated_after", NOT_A_TIME, "updated_after must be (a datetime|the UUID)"),
    *(
        (use, NOT_TEXT | {"None": None, "empty text": ""}, "faraday_conn_id must be the id of an Airflow")
        for use in USES
        if use.endswith("faraday_conn_id")
    ),
]


@pytest.mark.parametrize(
    ("use", "value", "says"),
    [
        pytest.param(USES[use], value, says, id=f"{use}-{what}")
        for use, values, says in TABLE
        for what, value in values.items()
    ],
)
def test_an_invalid_value_is_an_error_in_a_sentence_and_nothing_is_sent(
    use: Use, value: Any, says: str, sandbox: Sandbox
) -> None:
    with pytest.raises(FaradayInputError, match=says) as caught:
        use(value)
    assert sandbox.requests() == []
    assert all(line.isprintable() for line in str(caught.value).split("\n"))
    assert str(caught.value).endswith(".")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("use", [use for use in USES if not use.startswith("hook")])
def test_an_invalid_value_is_an_error_that_names_the_task(use: str) -> None:
    with pytest.raises(FaradayInputError, match=r"^\w+ 't'"):
        USES[use](b"")


def test_the_table_covers_every_argument() -> None:
    assert {use for use, _, _ in TABLE} == USES.keys()


@pytest.mark.parametrize(
    "datasets",
    [
        [ORDERS, CUSTOMERS],
        (ORDERS, CUSTOMERS),
        {ORDERS, CUSTOMERS},
        [uuid.UUID(ORDERS), CUSTOMERS.upper()],
        [{"id": ORDERS}, CUSTOMERS, ORDERS],
        MappedOutput(ORDERS, CUSTOMERS),
        MappedOutput({"id": ORDERS, "name": "orders"}, {"id": CUSTOMERS}),
        MappedOutput([{"id": ORDERS}], [], [{"id": CUSTOMERS}]),
    ],
)
def test_every_collection_of_datasets_is_accepted(datasets: Any, sandbox: Sandbox) -> None:
    for each in (ORDERS, CUSTOMERS):
        sandbox.set_dataset(each, status="ready")
    done = USES["sensor's datasets"](datasets)
    assert done.is_done
    assert {dataset["id"] for dataset in done.xcom_value} == {ORDERS, CUSTOMERS}


if AIRFLOW_3:

    @pytest.mark.parametrize("form", ["ids", "dicts", "lists"])
    def test_the_lazy_output_of_a_mapped_task_is_read_item_by_item(
        form: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from types import SimpleNamespace

        from airflow.sdk.execution_time import comms, task_runner
        from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence

        items: list[Any] = {
            "ids": [ORDERS, CUSTOMERS],
            "dicts": [{"id": ORDERS}, {"id": CUSTOMERS}],
            "lists": [[{"id": ORDERS}], [{"id": CUSTOMERS}]],
        }[form]

        class Supervisor:
            def send(self, message: Any) -> Any:
                if message.offset < len(items):
                    return comms.XComSequenceIndexResult(root=items[message.offset])
                return comms.ErrorResponse()

        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
        source = SimpleNamespace(key="return_value", operator=SimpleNamespace(dag_id="d", task_id="m"))
        lazy: Any = LazyXComSequence(xcom_arg=source, ti=SimpleNamespace(run_id="r"))  # type: ignore[arg-type]

        assert resource_ids(lazy, "datasets") == [ORDERS, CUSTOMERS]


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        (DatasetsReadySensor, {"scope_id": SCOPE[:-1]}),
        (DatasetsReadySensor, {"connection_id": 5}),
        (DatasetsReadySensor, {"datasets": [ORDERS[:-1]]}),
        (DatasetsReadySensor, {"datasets": "[orders]"}),
        (DatasetsReadySensor, {"datasets": [{"name": "orders"}]}),
        (DatasetsReadySensor, {"scope_id": SCOPE, "fields": "id"}),
        (DatasetsReadySensor, {"scope_id": SCOPE, "updated_after": "yesterday"}),
        (DatasetsReadySensor, {"scope_id": SCOPE, "updated_after": {ORDERS: "yesterday"}}),
        (DatasetsReadySensor, {"scope_id": SCOPE, "updated_after": {"orders": "2026-01-01"}}),
        (ListConnectionDatasetsOperator, {"connection_id": f"{WAREHOUSE}0"}),
        (ListScopeDatasetsOperator, {"scope_id": SCOPE, "fields": []}),
        (ForceUpdateDatasetsOperator, {"datasets": [None]}),
        (ForceUpdateDatasetsOperator, {"datasets": [ORDERS], "poke_interval": "60"}),
        (ForceUpdateDatasetsOperator, {"datasets": [ORDERS], "timeout": -1}),
        (ListResourcesOperator, {"resource_type": "dataset"}),
        (ResourcesReadySensor, {"resource_type": "dataset", "resource_ids": [ORDERS]}),
        (UploadFileOperator, {"path": "x.csv", "directory": "../x"}),
        (
            DatasetsReadySensor,
            {"scope_id": SCOPE, "include_upstream": True, "updated_after": "{{ ts }}", "unchanged_after": -1},
        ),
    ],
)
def test_an_invalid_literal_fails_when_the_dag_file_is_parsed(task: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(FaradayInputError, match=f"^{task.__name__} 'one_of_many'"):
        task(task_id="one_of_many", **arguments)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"datasets": [ORDERS], "requested_at": {ORDERS: "2026-01-31"}}, r'\.output\["requested_at"\]'),
        ([{"path": "a/b.csv", "updated_after": {ORDERS: "2026-01-31"}}], r'\.output\["updated_after"\]'),
        (f"{{'{ORDERS}': '2026-01-31'}}", "render_template_as_native_obj"),
    ],
)
def test_updated_after_of_a_whole_output_says_what_to_pass(value: Any, says: str) -> None:
    with pytest.raises(FaradayInputError, match=says) as caught:
        USES["sensor's updated_after"](value)
    assert str(caught.value).startswith("DatasetsReadySensor 't'")


@pytest.mark.parametrize(
    "arguments",
    [
        {"scope_id": "{{ params.scope }}"},
        {"datasets": "{{ ti.xcom_pull('list') }}"},
        {"datasets": [ORDERS, "{{ params.dataset }}"]},
        {"datasets": [{"id": "{% if x %}a{% endif %}"}]},
        {"scope_id": SCOPE, "updated_after": "{{ ts }}", "fields": "{{ params.fields }}"},
        {"scope_id": SCOPE, "updated_after": {ORDERS: "{{ ts }}"}},
        {"datasets": ForceUpdateDatasetsOperator(task_id="a", datasets=[ORDERS]).output["datasets"]},
    ],
)
def test_templates_and_xcoms_are_not_checked_before_they_are_rendered(arguments: dict[str, Any]) -> None:
    with DAG("templates", schedule=None):
        DatasetsReadySensor(task_id="t", **arguments)

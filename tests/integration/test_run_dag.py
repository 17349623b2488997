"""``run_dag`` itself: it reports what each task did, on every Airflow and in every mode."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSensorTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    task,
)


class CountingSensor(BaseSensorOperator):
    """Done at the third poke; the class counts, since each reschedule may create a new sensor."""

    polls = 0

    def poke(self, context):
        type(self).polls += 1
        self.log.info("poll number %s", self.polls)
        return PokeReturnValue(is_done=self.polls >= 3, xcom_value=self.polls)


def test_reports_results_errors_and_logs_per_task(run_dag):
    with DAG("rig_tasks", schedule=None) as dag:

        @task
        def numbers():
            return [1, 2]

        @task
        def double(number):
            import logging

            logging.getLogger("anything").warning("doubling %s", number)
            return number * 2

        @task
        def fail():
            raise AirflowFailException("no way")

        double.expand(number=numbers()) >> fail()

    result = run_dag(dag)

    assert result.state == "failed"
    assert result.states == {
        "numbers": "success",
        "double[0]": "success",
        "double[1]": "success",
        "fail": "failed",
    }
    assert [result["numbers"].xcom, result["double[0]"].xcom, result["double[1]"].xcom] == [[1, 2], 2, 4]
    assert "WARNING doubling 2" in result["double[1]"].log
    assert "doubling 2" not in result["double[0]"].log
    assert isinstance(result["fail"].error, AirflowFailException)
    assert str(result["fail"].error) == "no way"
    assert "no way" in result["fail"].log


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_runs_a_sensor_until_it_is_done(run_dag, mode):
    CountingSensor.polls = 0
    with DAG(f"rig_{mode}", schedule=None) as dag:
        CountingSensor(task_id="wait", poke_interval=0.1, timeout=60, mode=mode)

    result = run_dag(dag)

    assert result.states == {"wait": "success"}
    assert result["wait"].xcom == 3
    assert [f"INFO poll number {n}" in result["wait"].log for n in (1, 2, 3, 4)] == [True, True, True, False]


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_reports_the_exception_of_a_sensor_that_times_out(run_dag, mode):
    CountingSensor.polls = -1000
    with DAG(f"rig_timeout_{mode}", schedule=None) as dag:
        CountingSensor(task_id="wait", poke_interval=0.2, timeout=0.5, mode=mode)

    result = run_dag(dag)

    assert result.states == {"wait": "failed"}
    assert isinstance(result["wait"].error, AirflowSensorTimeout)


def test_reports_the_exception_of_each_failed_try(run_dag):
    with DAG("rig_retries", schedule=None) as dag:

        @task(retries=1, retry_delay=0.1)
        def fail():
            raise ValueError("again")

        fail()

    result = run_dag(dag)

    assert result.states == {"fail": "failed"}
    assert [str(error) for error in result["fail"].errors] == ["again", "again"]

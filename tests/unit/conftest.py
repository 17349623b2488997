"""What unit tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def task_log() -> Iterator[list[str]]:
    """Give the lines that operators and sensors log, each as ``LEVEL message``, as they come."""
    import airflow_rig

    with airflow_rig.watching() as watcher:
        watcher.current = "task"
        yield watcher.lines.setdefault("task", [])

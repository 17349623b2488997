"""Hold the sandbox's builds until Airflow sends its first request.

Airflow takes seconds to start. Otherwise, most builds would finish before the sensor polls.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_faraday.sandbox.server import Sandbox


@contextmanager
def builds_begin_at_request(sandbox: Sandbox, number: int = 1) -> Iterator[threading.Event]:
    """Keep all datasets that are not archived in status ``new`` until the sandbox has received a request.

    :param number: the number of the request that starts the builds; 1 is the first
    :return: an event that is set once the builds have started
    """
    held = [dataset["id"] for dataset in sandbox.datasets() if dataset["archived_at"] is None]
    for dataset_id in held:
        sandbox.set_dataset(dataset_id, status="new")
    begun, given_up = threading.Event(), threading.Event()

    def watch() -> None:
        while len(sandbox.requests()) < number:
            if given_up.wait(0.05):
                return
        for dataset_id in held:
            sandbox.set_dataset(dataset_id, rebuild=True)
        begun.set()

    watcher = threading.Thread(target=watch, name="held-builds")
    watcher.start()
    try:
        yield begun
    finally:
        given_up.set()
        watcher.join()

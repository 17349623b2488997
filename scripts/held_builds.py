"""Holds the sandbox's builds back until Airflow first asks, so that there is something to wait for.

Airflow takes seconds to start, and as many as the machine makes it; builds that began with the sandbox would
often be over by then.
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
    """Hold every dataset that is not archived in status ``new``, until the sandbox is asked for anything.

    :param number: the request at which the builds begin: 1 is the first
    :return: an event that is set when the builds have begun
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
